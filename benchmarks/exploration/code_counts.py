# ruff: noqa
# fmt: off
from closed import *
import itertools
D=torch.load("dist.pt")
@torch.no_grad()
def nll(level,sigma,alpha,keys):
    i=0 if level=="low" else 1; X=C["fit"][i].long(); n,g,h,w=X.shape; out={k:0 for k in keys}
    r=int(3*sigma); k1=torch.exp(-.5*(torch.arange(-r,r+1).float()/sigma)**2) if sigma else torch.ones(1)
    for q in range(g):
        cnt=torch.zeros(256,h,w); x=X[:,q]
        cnt.view(256,-1).scatter_add_(0,x.flatten(1),torch.ones(n,h*w))
        glob=cnt.sum((1,2))/cnt.sum()
        if sigma:
            c=F.conv2d(F.conv2d(F.pad(cnt[:,None],(r,r,r,r),mode="replicate"),k1[None,None,:,None]),k1[None,None,None,:])[:,0]
        else: c=cnt
        p=((c+alpha*glob[:,None,None]+1e-6)/(c.sum(0)+alpha)).log()
        for k in keys:
            y=C[k][i][:,q].long(); out[k]=out[k]-p.gather(0,y.flatten(1).view(len(y),h,w).permute(1,2,0).reshape(h,w,-1).permute(2,0,1).reshape(len(y),h,w)) if False else out[k]-p.flatten(1)[y.flatten(1),torch.arange(h*w)].view(len(y),1,h,w)
    return out
K=("val","planted","small","test")
for s,a in ((1.,10.),(3.,10.),(8.,30.)):
    lo,hi=nll("low",s,a,K),nll("high",s,a,K)
    report(f"nll sigma {s} alpha {a} low",lambda k:up(lo[k])); report("  high",lambda k:up(hi[k]))
    report("  sum, smoothed high",lambda k:up(lo[k])/lo["val"].std()+up(F.avg_pool2d(hi[k],3,1,1))/hi["val"].std())
    torch.save((lo,hi),f"nll{s}.pt")
