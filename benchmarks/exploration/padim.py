# ruff: noqa
# fmt: off
import numpy as np, torch, torch.nn.functional as F, timm, sys
from scipy.ndimage import gaussian_filter
from safetensors.torch import load_file
from subspect.metrics import image_auroc, pixel_ap
torch.set_num_threads(1)
z=np.load(sys.argv[1] if len(sys.argv)>1 else "mt.npz")
m=timm.create_model("resnet18",features_only=True,out_indices=(1,2,3),pretrained=False).eval()
sd=load_file("../shared/weights/resnet18_imagenet_to_layer3.safetensors"); print(m.load_state_dict(sd,strict=False))
mu=torch.tensor([.485,.456,.406])[:,None,None]; sd=torch.tensor([.229,.224,.225])[:,None,None]
ch=torch.randperm(448,generator=torch.Generator().manual_seed(0))[:100]
@torch.no_grad()
def feats(x):
    out=[]
    for i in range(0,len(x),16):
        im=torch.from_numpy(x[i:i+16]).float()/255; im=im[:,None].expand(-1,3,-1,-1) if im.ndim==3 else im.permute(0,3,1,2); im=(im-mu)/sd
        f=m(im); h=f[0].shape[2:]; out.append(torch.cat([f[0]]+[F.interpolate(q,h) for q in f[1:]],1)[:,ch].half())
    return torch.cat(out)
fit=feats(z["fit"]).float(); N,C,H,W=fit.shape; fit=fit.view(N,C,-1); mean=fit.mean(0); 
inv=torch.empty(H*W,C,C)
for p in range(0,H*W,256):
    d=(fit[:,:,p:p+256]-mean[:,p:p+256]); cov=torch.einsum("ncp,ndp->pcd",d,d)/(N-1)+.01*torch.eye(C); inv[p:p+256]=torch.linalg.inv(cov)
def maps(x):
    o=[]
    for i in range(0,len(x),64):
        d=feats(x[i:i+64]).float().view(-1,C,H*W)-mean; q=torch.einsum("ncp,pcd,ndp->np",d,inv,d).clamp(min=0).sqrt().view(-1,1,H,W)
        q=F.interpolate(q,x.shape[1:3],mode="bilinear")[:,0].numpy(); o.append(np.stack([gaussian_filter(a,4) for a in q]))
    return np.concatenate(o)
a=maps(z["val"]); b=maps(z["planted"]); n=len(a); M=np.concatenate([a,b]); mm=np.concatenate([np.zeros_like(z["pmask"]),z["pmask"]]); sc=M.max((1,2)); lab=np.r_[np.zeros(n),np.ones(n)]>0
print("PaDiM planted",image_auroc(sc,lab),pixel_ap(M,mm),flush=True)
for k in np.unique(z["pkind"]):
    s=np.r_[np.arange(n),n+np.where(z["pkind"]==k)[0]]; print(k,image_auroc(sc[s],lab[s]),pixel_ap(M[s],mm[s]))
if "test" in z.files and len(sys.argv)<2:
    t=maps(z["test"]); lab=np.array([q not in("good","normal","") for q in z["tname"]]); print("TEST",image_auroc(t.max((1,2)),lab),pixel_ap(t,z["tmask"]))
