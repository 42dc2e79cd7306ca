# ruff: noqa
# fmt: off
"""Planted small defects: pores and hairline cracks on the held-out normals; new npz."""
import numpy as np
from scipy import ndimage
z=np.load("mt.npz"); val=z["val"]; S=256
yy,xx=np.mgrid[:S,:S]+.5
P=[];M=[];K=[]
for i,im in enumerate(val):
    r=np.random.default_rng([11,i]); k=("pore","crack","faint")[i%3]; f=im.astype(np.float32)/255; a=np.zeros((S,S),np.float32)
    if k!="crack":
        for _ in range(r.integers(1,3)):
            cy,cx=r.uniform(20,S-20,2); R=r.uniform(2,5.5); e=r.uniform(.7,1.4); t=r.uniform(0,3.14)
            u=((yy-cy)*np.cos(t)+(xx-cx)*np.sin(t))*e; v=(-(yy-cy)*np.sin(t)+(xx-cx)*np.cos(t))/e
            a=np.maximum(a,1/(1+np.exp((np.hypot(u,v)-R)/.7)))
        c=r.uniform(.3,.7) if k=="pore" else r.uniform(.12,.3)
    else:
        n=r.integers(20,80); h=r.uniform(0,6.28); y,x=r.uniform(40,S-40,2); pts=np.zeros((S,S),np.float32)
        for s in range(n*2):
            h+=r.normal(0,.12); y+=.5*np.sin(h); x+=.5*np.cos(h)
            if 0<=y<S and 0<=x<S: pts[int(y),int(x)]=1
        a=np.clip(ndimage.gaussian_filter(pts,r.uniform(.5,1.))*3,0,1); c=r.uniform(.15,.45)
    P.append(np.clip((f*(1-c*a))*255,0,255).round().astype(np.uint8)); M.append(a>.4); K.append(k)
np.savez("small.npz",planted=np.stack(P),pmask=np.stack(M),pkind=np.array(K))
print({k:np.mean([m.mean() for m,q in zip(M,K) if q==k]) for k in set(K)})
from PIL import Image
rows=[np.hstack([P[i] for i in range(len(P)) if K[i]==k][:6]) for k in ("pore","faint","crack")]
t=z["tname"]; 
for k in ("blowhole","crack"):
    ix=np.where(t==k)[0]; ix=np.random.default_rng(0).permutation(ix)[:6]; rows.append(np.hstack(z["test"][ix]))
Image.fromarray(np.vstack(rows)).save("small.png")
