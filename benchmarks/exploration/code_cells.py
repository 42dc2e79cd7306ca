# ruff: noqa
# fmt: off
from grid import *
@torch.no_grad()
def nllc(level,side,sigma,alpha,keys):
    X=C["fit"][level].long(); n,g,h,w=X.shape; f=h//side; r=3; k1=torch.exp(-.5*(torch.arange(-r,r+1).float()/sigma)**2) if sigma else None; out={k:0 for k in keys}
    ar=torch.arange(h)//f; cell=(ar[:,None]*side+ar[None,:]).flatten()
    for q in range(g):
        cnt=torch.bincount((X[:,q].flatten(1)*side*side+cell).flatten(),minlength=256*side*side).view(256,side,side).float()/ (f*f)
        glob=cnt.sum((1,2))/cnt.sum(); c=cnt
        if sigma: c=F.conv2d(F.conv2d(F.pad(cnt[:,None],(r,r,r,r),mode="replicate"),k1[None,None,:,None]),k1[None,None,None,:])[:,0]
        T=-((c+alpha*glob[:,None,None]+1e-4)/(c.sum(0)+alpha)).log()
        for k in keys:
            y=C[k][level][:,q].long().flatten(1); out[k]=out[k]+T.flatten()[y*side*side+cell].view(len(y),1,h,w)
    return out
for side,sg in ((16,.7),(16,1.),(8,.7),(32,1.)):
    lo_,hi_=nllc(0,side,sg,10.,K),nllc(1,side,sg,10.,K)
    L3,H3=std(lo_,3,dbl),std(hi_,3)
    rep(f"side {side} sigma {sg}",lambda k:L3[k]+.5*H3[k])
