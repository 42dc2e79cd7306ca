# ruff: noqa
# fmt: off
from hist_lib import *
K=("val","planted","small","test")
lo,hi=torch.load("nll1.0.pt")
dn=lambda t:F.avg_pool2d(t,2)
def box(t,w): 
    p=w//2; return F.avg_pool2d(F.avg_pool2d(t,(w,1),1,(p,0),count_include_pad=False),(1,w),1,(0,p),count_include_pad=False) if w>1 else t
def std(d,w):
    m={k:box(d[k],w) for k in d}; mu,s=m["val"].mean(),m["val"].std(); return {k:(v-mu)/s for k,v in m.items()}
L={w:std(lo,w) for w in (1,3,5,9,17,33,63)}; H={w:std(hi,w) for w in (3,7,17,33)}
for w in L: report(f"low {w}",lambda k:up(L[w][k]),scores=(9,))
for c in ((1,5),(1,3,9),(1,5,17),(1,5,33),(1,3,9,33)):
    report(f"low sum {c} + high 3",lambda k:sum(up(L[w][k]) for w in c)/len(c)+up(H[3][k]),scores=(9,21))
    report(f"low max {c} + high 3",lambda k:torch.stack([up(L[w][k]) for w in c]).amax(0)+up(H[3][k]),scores=(9,21))
