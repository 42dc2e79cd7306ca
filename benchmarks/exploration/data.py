# ruff: noqa
# fmt: off
"""Cache of magnetic tile: train normals (13 blocks), validation (3 blocks) with planted defects, test."""
import sys, numpy as np, torch
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from subspect.run_data import DataOptions
from subspect.images import read_image, read_mask, resize
from subspect.datasets.surfaces.drawing import Scene
from subspect.datasets.surfaces import defects as D
from subspect.datasets.surfaces.camera import changed
S=256
data = DataOptions("../shared/data/magnetic_tile","magnetic_tile",None,0,0.0)
t = data.read()
tr=[s for s in t if s.split=="train"]; te=[s for s in t if s.split=="test"]
groups=sorted({s.group for s in tr}); rng=np.random.default_rng(1); held=set(rng.permutation(groups)[:3].tolist())
print(len(tr),len(te),held)
def rd(s): 
    im=torch.from_numpy(read_image(s.path)).permute(2,0,1); return (resize(im,(S,S),antialias=True)[0].clamp(0,1)*255).round().byte().numpy()
with ThreadPoolExecutor(2) as p:
    fit=np.stack(list(p.map(rd,[s for s in tr if s.group not in held])))
    val=np.stack(list(p.map(rd,[s for s in tr if s.group in held])))
    test=np.stack(list(p.map(rd,te)))
def mk(s):
    if not s.anomalous: return np.zeros((S,S),bool)
    m=torch.from_numpy(read_mask(s.mask_paths,s.mask_level))[None,None].float()
    return (torch.nn.functional.interpolate(m,(S,S),mode="nearest")[0,0]>.5).numpy()
masks=np.stack([mk(s) for s in te])
names=[s.defect for s in te]
# planted
kinds={"scratch":lambda r:D.scratch(r.choice([-.5,.5])),
 "hole":lambda r:D.hole((r.uniform(.05,.2),)*3,(3.,9.),1.0),
 "stain":lambda r:D.stain((r.choice([-.6,1.]),)*3,(.15,.6)),
 "warp":lambda r:D.warp(1.6),
 "graft":None}
pl=[];pm=[];pk=[]
for i,im in enumerate(val):
    k=list(kinds)[i%5]
    for a in range(50):
        r=np.random.default_rng([7,i,a])
        pic=im[...,None].astype(np.float32)/255
        sc=Scene(picture=pic,light=float(r.uniform(0,6.28)),material=np.ones((S,S),np.float32))
        if k=="graft":
            o=val[r.integers(len(val))]; o=np.rot90(o,r.integers(4)).astype(np.float32)[...,None]/255
            w=D.soft_patch(r,sc,(14.,40.),1.)[...,None]
            o=o-o.mean()+pic.mean()+r.uniform(-.1,.1)
            out=pic*(1-w)+o*w
        else: out=kinds[k](r)(sc,r)
        out=np.clip(out,0,1)
        q=(out[...,0]*255).round().astype(np.uint8)
        m=np.abs(q.astype(int)-im.astype(int))>=10
        from scipy import ndimage
        m=ndimage.binary_closing(m,iterations=2); m=ndimage.binary_opening(m,iterations=1) if k!="scratch" else m
        if .0005<m.mean()<.25: break
    pl.append(q);pm.append(m);pk.append(k)
np.savez("exploration/mt.npz",fit=fit,val=val,planted=np.stack(pl),pmask=np.stack(pm),pkind=np.array(pk),test=test,tmask=masks,tname=np.array(names))
print(fit.shape,val.shape,test.shape,{k:float(np.mean([m.mean() for m,q in zip(pm,pk) if q==k])) for k in kinds})
from PIL import Image
rows=[]
for k in kinds:
    ix=[i for i in range(len(pk)) if pk[i]==k][:8]
    rows.append(np.hstack([pl[i] for i in ix])); rows.append(np.hstack([pm[i]*255 for i in ix]).astype(np.uint8))
Image.fromarray(np.vstack(rows)).resize((1024,1280)).save("exploration/planted.png")
ix=np.random.default_rng(0).permutation(len(fit))[:32]
Image.fromarray(np.vstack([np.hstack(fit[ix[r*8:r*8+8]]) for r in range(4)])).resize((1024,512)).save("exploration/fit.png")
