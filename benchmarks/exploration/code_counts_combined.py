# ruff: noqa
# fmt: off
from hist_lib import *
K=("val","planted","small","test")
lo,hi=torch.load("nll1.0.pt"); D=torch.load("dist.pt")
import pickle
lf,hf=nll("low",1.,10.,("fit",)),nll("high",1.,10.,("fit",))
lf,hf=lf["fit"],hf["fit"]
mL,sL=lf.mean(0),lf.std(0); mH,sH=hf.mean(0),hf.std(0)
print("pos mean range",mL.min(),mL.max(),sL.min(),sL.max())
S3=lambda t:F.avg_pool2d(t,3,1,1)
nl=lambda k:(lo[k]-lf.mean())/lf.std(); nh=lambda k:S3(hi[k]-hf.mean())/hf.std()
report("A sum",lambda k:up(nl(k))+up(nh(k)))
report("B minus position mean",lambda k:up((lo[k]-mL)/lf.std())+up(S3(hi[k]-mH)/hf.std()))
report("C z by position",lambda k:up((lo[k]-mL)/sL)+up(S3((hi[k]-mH)/sH)))
report("D sum + gauss",lambda k:up(nl(k))+up(nh(k))+up(D[k][0])+up(D[k][1]))
report("D2 sum + gauss low",lambda k:up(nl(k))+up(nh(k))+up(D[k][0]))
report("D3 C + gauss",lambda k:up((lo[k]-mL)/sL)+up(S3((hi[k]-mH)/sH))+up(D[k][0])+up(D[k][1]))
report("E no smoothing of high",lambda k:up(nl(k))+up((hi[k]-hf.mean())/hf.std()))
for a in (.5,1.):
    base=lambda k:up(nl(k))+up(nh(k))
    report(f"F minus {a} median",lambda k:base(k)-a*base(k).flatten(1).median(1).values[:,None,None,None])
