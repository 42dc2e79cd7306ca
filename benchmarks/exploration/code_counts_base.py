# ruff: noqa
# fmt: off
"""Closed-form scores from cached codes."""
import numpy as np,torch,torch.nn.functional as F,sys
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
def whitening(c):
    w,V=torch.linalg.eigh(c); return (V*(w+.01*w.mean()).rsqrt())@V.T
from subspect.metrics import image_auroc,pixel_ap
torch.set_num_threads(1)
d=Dsr(PRESETS["fast"]); d.start(None); m=d.latent_model
C,_,_=torch.load("codes.pt"); z=np.load("../exploration/mt.npz"); sm=np.load("../s/small.npz")
BOOK={"low":m.low_codebook,"high":m.high_codebook}
def feats(k,level,sl=slice(None)): return BOOK[level].lookup(C[k][0 if level=="low" else 1][sl].long())
lab=np.array([q not in("good","normal","") for q in z["tname"]])
MASK={"planted":z["pmask"],"small":sm["pmask"],"test":z["tmask"][lab]}; KIND={"planted":z["pkind"],"small":sm["pkind"],"test":z["tname"][lab]}
def up(t): return F.interpolate(t,(256,256),mode="bilinear",align_corners=False)
def report(name,score,sets=("planted","small","test"),scores=(21,),ap=True):
    """score: set -> (N,1,256,256) map."""
    v=score("val"); o=[]
    for s in sets:
        t=score(s); a,b=(t[~torch.from_numpy(lab)],t[torch.from_numpy(lab)]) if s=="test" else (v,t)
        r=[]
        for w in scores:
            sc=lambda q:F.avg_pool2d(F.avg_pool2d(q,(w,1),1,(w//2,0),count_include_pad=False),(1,w),1,(0,w//2),count_include_pad=False).amax((1,2,3)).numpy(); s0,s1=sc(a),sc(b)
            r.append("%.3f"%float(image_auroc(np.r_[s0,s1],np.r_[np.zeros(len(a)),np.ones(len(b))]>0)))
        k=" ".join("%s %.2f"%(str(q)[:4],float(image_auroc(np.r_[s0,s1[KIND[s]==q]],np.r_[np.zeros(len(a)),np.ones((KIND[s]==q).sum())]>0))) for q in np.unique(KIND[s]))
        p=float(pixel_ap(torch.cat((a,b))[:,0,::3,::3].contiguous().numpy(),np.concatenate([np.zeros((len(a),86,86),bool),MASK[s][:,::3,::3]]))) if ap else 0
        o.append(f"{s} {'/'.join(r)} ap {p:.3f} [{k}]")
    print(name,"|"," | ".join(o),flush=True)
class Normal:
    def __init__(s,level,X=slice(None,None,2)):
        s.level=level; n=len(C["fit"][0][X]); ix=np.arange(len(C["fit"][0]))[X]
        ch=lambda: (feats("fit",level,ix[i:i+16]) for i in range(0,len(ix),16))
        s.mean=sum(c.double().sum(0) for c in ch()).div(n).float()
        cov=0
        for c in ch():
            r=(c-s.mean).permute(1,0,2,3).flatten(1); cov=cov+(r@r.T).double()
        s.W=whitening((cov/(n*s.mean[0].numel())).float())
        s.scale=torch.ones(1); q=sum(s.sq("fit",ix[i:i+16]).double().sum(0) for i in range(0,len(ix),16))/n
        s.scale=(q+.01*q.mean()).float()
    def z(s,k,sl): return F.conv2d(feats(k,s.level,sl)-s.mean,s.W[:,:,None,None])
    def sq(s,k,sl): return s.z(k,sl).square().mean(1,keepdim=True)
    def dist(s,k):
        n=len(C[k][0]); return torch.cat([s.sq(k,slice(i,i+16))/s.scale for i in range(0,n,16)])
if __name__=="__main__":
    with torch.no_grad():
        lo,hi=Normal("low"),Normal("high")
        D={k:(lo.dist(k).clamp(min=1e-4).log(),hi.dist(k).clamp(min=1e-4).log()) for k in ("val","planted","small","test")}
        torch.save(D,"dist.pt")
        base=lambda k: up(D[k][0])+up(D[k][1])
        sg=lambda f,b=3.: (lambda k:(f(k)-b).sigmoid())
        report("sum, sigmoid",sg(base))
        report("sum, raw",base)
        report("low",lambda k:up(D[k][0])); report("high",lambda k:up(D[k][1]))
        for a in (.5,1.):
            med=lambda k,a=a: base(k)-a*base(k).flatten(1).median(1).values[:,None,None,None]
            report(f"minus {a} median",sg(med,3-a*-.2))
