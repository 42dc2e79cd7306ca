# ruff: noqa
# fmt: off
"""PaDiM with and without positions, on raw and on quantised features; planted and small; 64x64 and 32x32 grid."""
import numpy as np,torch,torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
from subspect.metrics import image_auroc,pixel_ap
torch.set_num_threads(1); d=Dsr(PRESETS["fast"]); d.start(None); m=d.latent_model.eval().to(memory_format=torch.channels_last)
z=np.load("mt.npz"); sm=np.load("small.npz"); ch=torch.randperm(448,generator=torch.Generator().manual_seed(0))[:100]; G=32
fit=z["fit"][::2]
@torch.no_grad()
def feats(x):
    R=[];Q=[]
    for i in range(0,len(x),8):
        im=(torch.from_numpy(x[i:i+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last); e=m.encode(im)
        for L,h,l in ((R,e.high,e.low),(Q,e.quantized_high.features,e.quantized_low.features)):
            L.append(torch.cat((F.avg_pool2d(h[:,:64],2),l),1)[:,ch].half())
    return {"raw":torch.cat(R),"Q":torch.cat(Q)}
f=feats(fit); st={}
def stat(x,pos):
    x=x.float(); N,C,H,W=x.shape; x=x.flatten(2)
    if not pos:
        v=x.permute(1,0,2).reshape(C,-1).double(); mu=v.mean(1); c=torch.cov(v); return mu.float()[:,None],torch.linalg.inv(c.float()+.01*torch.eye(C))[None]
    mu=x.mean(0); inv=torch.empty(H*W,C,C)
    for p in range(0,H*W,256):
        q=x[:,:,p:p+256]-mu[:,p:p+256]; inv[p:p+256]=torch.linalg.inv(torch.einsum("ncp,ndp->pcd",q,q)/(N-1)+.01*torch.eye(C))
    return mu,inv
def mp(x,s):
    x=x.float(); N,C,H,W=x.shape; q=x.flatten(2)-s[0]; inv=s[1].expand(H*W,-1,-1); o=torch.einsum("ncp,pcd,ndp->np",q,inv,q).clamp(min=0).sqrt().view(-1,1,H,W)
    o=F.interpolate(o,(256,256),mode="bilinear",align_corners=False)[:,0].numpy(); return np.stack([gaussian_filter(a,4) for a in o])
B={"val":feats(z["val"]),"planted":feats(z["planted"]),"small":feats(sm["planted"])}
def stat2(x,how):
    x=x.float(); N,C,H,W=x.shape; eye=torch.eye(C)
    if how=="coarse":  # statistics pooled over 4x4 positions
        xx=x.unfold(2,4,4).unfold(3,4,4).permute(0,4,5,1,2,3).reshape(-1,C,H//4,W//4); mu,inv=stat(xx,1)
        up=lambda t:t.view(H//4,W//4,-1).repeat_interleave(4,0).repeat_interleave(4,1)
        return up(mu.T).reshape(H*W,C).T.contiguous(),up(inv.reshape(-1,C*C)).reshape(H*W,C,C)
    x=x.flatten(2); mu=x.mean(0); r=x-mu
    if how=="mean+globalcov": v=r.permute(1,0,2).reshape(C,-1).double(); return mu,torch.linalg.inv(torch.cov(v).float()+.01*eye)[None]
    if how=="mean+diag": var=r.var(0)+.01; return mu,torch.diag_embed((1/var).T)
    if how=="mean+localscale":  # global correlation, local variance of the whitened residual
        v=r.permute(1,0,2).reshape(C,-1).double(); inv=torch.linalg.inv(torch.cov(v).float()+.01*eye); q=torch.einsum("ncp,cd,ndp->np",r,inv,r).mean(0); return mu,inv[None]/q[:,None,None]
    if how=="mean+diagwhite":
        v=r.permute(1,0,2).reshape(C,-1).double(); w,V=torch.linalg.eigh(torch.cov(v)+.01*eye); T=(V*w.rsqrt()).T.float(); y=torch.einsum("dc,ncp->ndp",T,r); var=y.var(0)+.05; return mu,torch.einsum("dc,dp,de->pce",T,1/var,T)
for kind in ("raw","Q"):
    for pos in ("coarse","mean+globalcov","mean+diag","mean+localscale","mean+diagwhite"):
        s=stat2(f[kind],pos); a=mp(B["val"][kind],s)
        for nm,zz in (("planted",z),("small",sm)):
            b=mp(B[nm][kind],s); sc=np.r_[a.max((1,2)),b.max((1,2))]; n=len(a); lab=np.r_[np.zeros(n),np.ones(n)]>0
            print(kind,pos,nm,round(float(image_auroc(sc,lab)),3),round(float(pixel_ap(np.concatenate([a,b]),np.concatenate([np.zeros_like(zz["pmask"]),zz["pmask"]]))),3),{str(k):round(float(image_auroc(np.r_[sc[:n],sc[n:][zz["pkind"]==k]],np.r_[np.zeros(n),np.ones((zz["pkind"]==k).sum())]>0)),3) for k in np.unique(zz["pkind"])},flush=True)
