# ruff: noqa
# fmt: off
import numpy as np, torch, torch.nn.functional as F, time
torch.set_num_threads(1)
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.codes import flatten_features
from subspect.metrics import image_auroc, pixel_ap
z=np.load("mt.npz"); lm,_=load_latent_model(None,PRESETS["fast"].latent)
def to(x): return (torch.from_numpy(x).float()/255)[:,None].expand(-1,3,-1,-1).contiguous()
@torch.no_grad()
def feats(x):
    out=[]
    for i in range(0,len(x),8):
        L=lm.encode(to(x[i:i+8])); out.append((L.low,L.high,L.quantized_low.indices,L.quantized_high.indices))
    return [torch.cat(t) for t in zip(*out)]
fit=feats(z["fit"][::3]); val=feats(z["val"]); pl=feats(z["planted"])
lab=np.r_[np.zeros(len(z["val"])),np.ones(len(z["val"]))]>0; mm=np.concatenate([np.zeros_like(z["pmask"]),z["pmask"]]); pk=z["pkind"]; n=len(z["val"])
def rep(name,m):
    m=F.interpolate(m[:,None],(256,256),mode="bilinear")[:,0]; sc=F.avg_pool2d(m[:,None],9,1,4).amax((1,2,3)).numpy(); m=m.numpy()
    k={}
    for q in np.unique(pk):
        s=np.r_[np.arange(n),n+np.where(pk==q)[0]]; k[str(q)]=(round(image_auroc(sc[s],lab[s]),3),round(pixel_ap(m[s],mm[s]),3))
    print(name,round(image_auroc(sc,lab),3),round(pixel_ap(m,mm),3),k,flush=True)
K=1024
for lv,(ii,h) in {"low":(2,32),"high":(3,64)}.items():
    c=torch.bincount(fit[ii].flatten(),minlength=K).float(); p=-((c+.5)/(c.sum()+.5*K)).log()
    print(lv,"codes used",int((c>0).sum()), "perp",float(torch.exp(torch.special.entr(c/c.sum()).sum())))
    rep(f"rarity {lv}",torch.cat((p[val[ii]],p[pl[ii]])))
def nn(mem,x,k=1):
    o=[]
    for q in x.split(4096): o.append(torch.cdist(q,mem).topk(k,largest=False).values.mean(1))
    return torch.cat(o)
g=torch.Generator().manual_seed(0)
for lv,ii,pool in (("low",0,1),("low3",0,3),("high3",1,3),("high5s",1,5)):
    def f(t):
        t=t[ii]
        if pool>1: t=F.avg_pool2d(t,pool,1,pool//2)
        return t
    A=flatten_features(f(fit)); mem=A[torch.randperm(len(A),generator=g)[:8000]]
    st=2 if ii==1 else 1
    def d(t):
        y=f(t)[:,:,::st,::st]; return nn(mem,flatten_features(y)).view(len(y),*y.shape[2:])
    rep("memory "+lv,torch.cat((d(val),d(pl))))
