# ruff: noqa
# mypy: ignore-errors
"""judge.py DETECTOR...: planted defects in held-out training normals; image AUROC and pixel AP of each family."""
import sys, hashlib
from pathlib import Path
import numpy as np, torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score, average_precision_score
torch.set_num_threads(1)
from subspect.storage import load_detector
from subspect.inspection.prediction import predict
from subspect.images import read_image
from subspect.probe.families import make_families
from subspect.sizes import resize
paths=[Path(l) for l in open('/tmp/runs/normal.txt').read().split()][::2]   # 84
pics=[read_image(p) for p in paths]
def finish(kind):
    def f(p, rng):
        h,w,_=p.shape
        # soft half plane or strip, at random angle/place
        a=rng.uniform(0,2*np.pi); y,x=np.mgrid[:h,:w]; t=((x/w-.5)*np.cos(a)+(y/h-.5)*np.sin(a))
        off=rng.uniform(-.15,.25); m=1/(1+np.exp(-(t-off)*40))
        if kind=='blur': q=gaussian_filter(p,(1.2,1.2,0))
        elif kind=='contrast': b=gaussian_filter(p,(4,4,0)); q=np.clip(b+(p-b)*rng.choice([.5,1.7]),0,1)
        else: q=np.clip(p*rng.choice([.88,1.12]),0,1)
        return (p*(1-m[...,None])+q*m[...,None]).astype(np.float32), m>.5
    return f
fam=[]
for F in make_families((0.1,0.2)):
    def make(F):
        def f(p,rng,other):
            side=min(*p.shape[:2],*other.shape[:2]); s=np.exp(rng.uniform(np.log(max(F.least,F.smallest*side)*(F.largest/F.smallest)**.4),np.log(F.largest*side*.95)))
            pl=F.plant(p,other,s,rng); return pl.picture, pl.mask if hasattr(pl,'mask') else np.abs(pl.picture-p).max(2)>0
        return f
    fam.append((F.name,make(F)))
for k in('blur','contrast','gain'): fam.append(('zone '+k,(lambda k:lambda p,rng,other:finish(k)(p,rng))(k)))
def run(d,ps):
    out=[]
    for i in range(0,len(ps),8): out+=predict(d,ps[i:i+8],'cpu')
    return out
from dataclasses import replace
from subspect.storage import find_detector
def get(a):
    d=load_detector(find_detector(Path(a.removesuffix('@M')))).eval()
    if a.endswith('@M'): d.config=replace(d.config,refine=False)
    return d
dets={a:get(a) for a in sys.argv[1:]}
normal={a:run(d,pics) for a,d in dets.items()}
rows=[]
for n,f in fam:
    rng=np.random.default_rng(int(hashlib.md5(n.encode()).hexdigest()[:8],16))
    pl=[f(p,rng,pics[(i+7)%len(pics)]) for i,p in enumerate(pics)]
    masks=[]
    for p,m in pl:
        masks.append(resize(torch.from_numpy(m[None].astype(np.float32)),(256,256),antialias=False)[0].numpy()>.5)
    line=[f'{n:22s}']
    for a,d in dets.items():
        s=run(d,[p for p,_ in pl]); no=normal[a]
        au=roc_auc_score([0]*len(no)+[1]*len(s),[x.score for x in no]+[x.score for x in s])
        y=np.concatenate([np.zeros(256*256*len(no),bool)[::4]]+[m.ravel()[::4] for m in masks]); v=np.concatenate([x.anomaly_map.ravel()[::4] for x in no]+[x.anomaly_map.ravel()[::4] for x in s])
        ap=average_precision_score(y,v); line.append(f'{au*100:5.1f}/{ap*100:5.1f}'); rows.append((a,n,au,ap))
    print('  '.join(line),flush=True)
for g,names in (('small',[n for n,_ in fam if n.startswith(('spot','scratch'))]),('near',['warp','displaced patch','swapped patch']),('zones',[n for n,_ in fam if n.startswith('zone')])):
    print(f'{g:22s}','  '.join(f"{np.mean([r[2] for r in rows if r[0]==a and r[1] in names])*100:5.1f}/{np.mean([r[3] for r in rows if r[0]==a and r[1] in names])*100:5.1f}" for a in dets))
