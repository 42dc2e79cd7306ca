# ruff: noqa
# fmt: off
# Of a run by commit 76bab09: python start_or_trained.py RUN/detector
import numpy as np,torch,torch.nn.functional as F
from pathlib import Path
from subspect.storage import load_detector
from subspect.metrics import image_auroc,pixel_ap
torch.set_num_threads(1); z=np.load("../exploration/mt.npz"); sm=np.load("small.npz")
d=load_detector(Path(__import__("sys").argv[1])).eval().to(memory_format=torch.channels_last)
g=d.detection.first_guess; print("guess",g.weight.flatten().tolist(),g.bias.tolist())
W=torch.tensor([[-.5,-.5],[.5,.5]])[:,:,None,None]; B=torch.tensor([1.5,-1.5])
@torch.no_grad()
def run(x):
    o=[[],[],[]]
    for i in range(0,len(x),8):
        im=(torch.from_numpy(x[i:i+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last)
        lat=d.latent_model.encode(im); lo,hi=lat.quantized_low.features,lat.quantized_high.features
        gen=d.latent_model.decoder(d.latent_model.join(lo,hi)); r=d.restrict(lo,hi); f,ds=r.evidence
        s=F.interpolate(F.conv2d(ds,W,B),scale_factor=4,mode="bilinear",align_corners=False).softmax(1)[:,1]
        m=d.detect(r,gen).softmax(1)[:,1]; o[0].append(s); o[1].append(m); o[2].append((s*m).sqrt())
    return [torch.cat(q) for q in o]
def rep(name,N,P,masks,kinds):
    for nm,a,b in zip(("start","trained","both"),N,P):
        sc=lambda t:F.avg_pool2d(t[:,None],21,1,10).amax((1,2,3)).numpy(); s0,s1=sc(a),sc(b); y=np.r_[np.zeros(len(a)),np.ones(len(b))]>0
        print(name,nm,round(float(image_auroc(np.r_[s0,s1],y)),3),round(float(pixel_ap(torch.cat((a,b)).numpy(),np.concatenate([np.zeros((len(a),256,256),bool),masks]))),3),{str(k):round(float(image_auroc(np.r_[s0,s1[kinds==k]],np.r_[np.zeros(len(a)),np.ones((kinds==k).sum())]>0)),3) for k in np.unique(kinds)},flush=True)
n=90; v=run(z["val"][:n]); rep("planted",v,run(z["planted"][:n]),z["pmask"][:n],z["pkind"][:n]); rep("small",v,run(sm["planted"][:n]),sm["pmask"][:n],sm["pkind"][:n])
lab=np.array([q not in("good","normal","") for q in z["tname"]]); t=run(z["test"]); rep("TEST",[q[~lab] for q in t],[q[lab] for q in t],z["tmask"][lab],z["tname"][lab])
