# ruff: noqa
# mypy: ignore-errors
import torch, numpy as np, sys
from pathlib import Path
from sklearn.metrics import roc_auc_score
from subspect.datasets import read_table
from subspect.detectors.backbones import Backbone
from subspect.images import read_image
from subspect.sizes import resize
torch.set_num_threads(1)
S='/work/shared'
b=Backbone("resnet18.tv_in1k",(1,2,3)) if False else None
import inspect
from subspect.detectors import backbones
print(inspect.signature(backbones.Backbone.__init__))
bb=backbones.Backbone("resnet18.tv_in1k",(1,2,3)); bb.load_weights(S+'/weights/resnet18_imagenet_to_layer3.safetensors'); bb.eval()
mean=torch.tensor([.485,.456,.406])[:,None,None]; std=torch.tensor([.229,.224,.225])[:,None,None]
t=read_table(Path('/tmp/data/magnetic_tile'),'magnetic_tile',0)
def feats(samples):
    out=[]
    with torch.inference_mode():
        for s in samples:
            x=resize(torch.from_numpy(read_image(s.path)).permute(2,0,1),(256,256),antialias=True)
            fs=bb(((x-mean)/std)[None])
            v=[]
            for f in fs:
                v+= [f.mean((2,3)), f.std((2,3))]
            out.append(torch.cat(v,1)[0])
    return torch.stack(out)
tr=[s for s in t if s.split in('train','calibration') and not s.anomalous]
te=[s for s in t if s.split=='test']
A=feats(tr); B=feats(te)
mu,sd=A.mean(0),A.std(0)
A=(A-mu)/sd; B=(B-mu)/sd
d=torch.cdist(B,A).topk(3,largest=False).values.mean(1).numpy()
kinds=np.array([s.defect for s in te]); an=np.array([s.anomalous for s in te])
for k in ['all',*sorted(set(kinds[an]))]:
    sel=~an|(an if k=='all' else kinds==k)
    print(k, round(roc_auc_score(an[sel],d[sel])*100,1))
np.savez('/tmp/knn.npz',d=d,kinds=kinds,an=an,paths=[s.path.name for s in te])
