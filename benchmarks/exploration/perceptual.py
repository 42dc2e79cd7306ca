# ruff: noqa
# fmt: off
import numpy as np, torch, torch.nn.functional as F, timm, sys, glob, random
from scipy.ndimage import gaussian_filter
from safetensors.torch import load_file
from PIL import Image
from subspect.metrics import image_auroc, pixel_ap
from subspect.detectors.dsr.quantizer import k_means
from subspect.codes import nearest_codes, flatten_features
torch.set_num_threads(1)
z=np.load("exploration/mt.npz")
m=timm.create_model("resnet18",features_only=True,out_indices=(1,2,3),pretrained=False).eval()
sd=load_file("../shared/weights/resnet18_imagenet_to_layer3.safetensors"); print(m.load_state_dict(sd,strict=False))
mu=torch.tensor([.485,.456,.406])[:,None,None]; sd=torch.tensor([.229,.224,.225])[:,None,None]
paths=sorted(glob.glob("../shared/data/natural_images/**/*.*",recursive=True))+sorted(glob.glob("../shared/data/dtd/**/*.jpg",recursive=True))
paths=[p for p in paths if p.lower().endswith(("jpg","jpeg","png"))]; random.Random(0).shuffle(paths); print(len(paths))
def rd(p):
    im=Image.open(p).convert("RGB"); w,h=im.size; s=256/min(w,h); im=im.resize((max(256,round(w*s)),max(256,round(h*s))),Image.BILINEAR); x=(im.width-256)//2; y=(im.height-256)//2
    return np.asarray(im.crop((x,y,x+256,y+256)))
nat=torch.from_numpy(np.stack([rd(p) for p in paths[:250]])).permute(0,3,1,2)
@torch.no_grad()
def raw(x):
    out=[]
    for i in range(0,len(x),10):
        im=torch.as_tensor(x[i:i+10]).float()/255; im=im[:,None].expand(-1,3,-1,-1) if im.ndim==3 else im; im=(im-mu)/sd
        out.append([q.half() for q in m(im)])
    return [torch.cat(t) for t in zip(*out)]
g=torch.Generator().manual_seed(0)
books={}
f=raw(nat)
for lv in range(3):
    v=flatten_features(f[lv].float()); v=v[torch.randperm(len(v),generator=g)[:60000]]
    for K in (1024,4096):
        c=k_means(v[:60000],K,g,iterations=8 if K==1024 else 5); books[lv,K]=c
        q=c[torch.cat([torch.cdist(t,c).argmin(1) for t in v[:8000].split(2000)])]
        print("level",lv+1,"K",K,"explained",1-float(((v[:8000]-q)**2).sum()/((v[:8000]-v.mean(0))**2).sum()),flush=True)
torch.save(books,"books.pt")
def quant(t,lv,K):
    c=books[lv,K]; o=[]
    for q in t.split(16):
        i=nearest_codes(q.float(),c); o.append(F.embedding(i,c).permute(0,3,1,2).half())
    return torch.cat(o)
n=len(z["val"]); lab=np.r_[np.zeros(n),np.ones(n)]>0; mm=np.concatenate([np.zeros_like(z["pmask"]),z["pmask"]]); tl=np.array([q not in("good","normal","") for q in z["tname"]])
R={k:raw(z[k][::2] if k=="fit" else z[k]) for k in ("fit","val","planted","test")}
def run(name,levels,K):
    def get(k):
        fs=[R[k][l] if K==0 else quant(R[k][l],l,K) for l in levels]; h=fs[0].shape[2:]
        h=(32,32)
        def rs(q): return F.avg_pool2d(q.float(),2).half() if q.shape[2]==64 else F.interpolate(q.float(),h).half()
        return torch.cat([rs(q) for q in fs],1)
    A=get("fit"); ch=torch.randperm(A.shape[1],generator=torch.Generator().manual_seed(0))[:100]
    A=A[:,ch].float().flatten(2); mean=A.mean(0); inv=[]
    N,C,P=A.shape
    for p in range(0,P,256):
        d=A[:,:,p:p+256]-mean[:,p:p+256]; inv.append(torch.linalg.inv(torch.einsum("ncp,ndp->pcd",d,d)/(N-1)+.01*torch.eye(C)))
    inv=torch.cat(inv)
    def maps(k):
        o=[]
        for b in get(k)[:,ch].float().flatten(2).split(64):
            d=b-mean; q=torch.einsum("ncp,pcd,ndp->np",d,inv,d).clamp(min=0).sqrt().view(-1,1,32,32)
            q=F.interpolate(q,(256,256),mode="bilinear")[:,0].numpy(); o.append(np.stack([gaussian_filter(a,4) for a in q]))
        return np.concatenate(o)
    M=np.concatenate([maps("val"),maps("planted")]); t=maps("test")
    print(name,"planted",round(image_auroc(M.max((1,2)),lab),3),round(pixel_ap(M,mm),3),"test",round(image_auroc(t.max((1,2)),tl),3),round(pixel_ap(t,z["tmask"]),3),flush=True)
run("raw 123",(0,1,2),0); run("raw 12",(0,1),0); run("q1024 12",(0,1),1024); run("q4096 12",(0,1),4096); run("q1024 123",(0,1,2),1024); run("raw 1",(0,),0); run("raw 2",(1,),0); run("raw 3",(2,),0)
