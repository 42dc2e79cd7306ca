# ruff: noqa
# fmt: off
from hist_lib import *
import sys
K=("val","planted","small","test")
lo,hi=torch.load(sys.argv[1] if len(sys.argv)>1 else "nll1.0.pt")
dbl=lambda t:F.interpolate(t,(64,64),mode="bilinear",align_corners=False)
def box(t,w): 
    p=w//2; return F.avg_pool2d(F.avg_pool2d(t,(w,1),1,(p,0),count_include_pad=False),(1,w),1,(0,p),count_include_pad=False) if w>1 else t
def std(d,w,f=lambda t:t):
    m={k:f(box(d[k],w)) for k in d}; mu,s=m["val"].mean(),m["val"].std(); return {k:(v-mu)/s for k,v in m.items()}
L={w:std(lo,w,dbl) for w in (1,3,5,7,9,13)}; H={w:std(hi,w) for w in (1,3,5,9,17)}
mk={k:torch.from_numpy(np.asarray(v))[:,2::4,2::4].numpy() for k,v in MASK.items()}
def rep(name,f,ws=(1,3,5)):
    v=f("val"); o=[]
    for s in ("planted","small","test"):
        t=f(s); a,b=(t[~torch.from_numpy(lab)],t[torch.from_numpy(lab)]) if s=="test" else (v,t); r=[]
        for w in ws:
            s0,s1=box(a,w).amax((1,2,3)).numpy(),box(b,w).amax((1,2,3)).numpy(); r.append("%.3f"%float(image_auroc(np.r_[s0,s1],np.r_[np.zeros(len(a)),np.ones(len(b))]>0)))
        k=" ".join("%s %.2f"%(str(q)[:4],float(image_auroc(np.r_[s0,s1[KIND[s]==q]],np.r_[np.zeros(len(a)),np.ones((KIND[s]==q).sum())]>0))) for q in np.unique(KIND[s]))
        p=float(pixel_ap(torch.cat((a,b))[:,0].contiguous().numpy(),np.concatenate([np.zeros((len(a),64,64),bool),mk[s]])))
        o.append(f"{s} {'/'.join(r)} ap {p:.3f} [{k}]")
    print(name,"|"," | ".join(o),flush=True)
if __name__=="__main__":
  for l in (1,3,5,9):
    for h,wt in ((3,0),(3,.5),(3,1),(5,1),(9,.5),(9,1),(17,1)):
        rep(f"low {l} high {h} x {wt}",lambda k:L[l][k]+wt*H[h][k])
