# ruff: noqa
# mypy: ignore-errors
import torch,time,numpy as np,sys
from pathlib import Path
torch.set_num_threads(1)
from subspect.storage import load_detector
from subspect.runs.data import DataOptions
from subspect.images import read_image
from subspect.simulation.shapes import draw_masks
from subspect.simulation.overlay import paint
from subspect.probe import planting
import torch.nn.functional as F
d=load_detector(Path('runs/tile_0/detector')).eval(); m=d.latent_model
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
cal=[s for s in t.select(split='calibration').samples]
rng=np.random.default_rng(0)
pick=rng.permutation(len(cal))
part=sys.argv[1]
def load(ix): return torch.stack([d.prepare(read_image(cal[i].path)) for i in ix])
n=32
base=load(pick[:n]); g=torch.Generator().manual_seed(5)
def bandmask(k):
    mk=draw_masks(k,(256,256),g,('bands','perlin'),0.)
    mk=F.avg_pool2d(F.pad(mk,(6,)*4,mode='replicate'),13,1); return mk
sets={}
if part=='a':
    sets['normal']=load(pick[n:n+64])
else:
    mk=bandmask(n)
    s=torch.where(torch.rand(n,1,1,1,generator=g)<.5,-1.,1.)*(.04+.12*torch.rand(n,1,1,1,generator=g))
    sets['broad gain']=(base*(1+s*mk)).clamp(0,1); sets['mask broad']=mk
    k=torch.arange(-4,5).float(); k=torch.exp(-.5*(k/1.5)**2); k=k/k.sum()
    bl=lambda x:F.conv2d(F.conv2d(F.pad(x.flatten(0,1)[:,None],(4,)*4,mode='reflect'),k[None,None,:,None]),k[None,None,None,:])[:,0].view_as(x)
    b=bl(base); a=torch.where(torch.rand(n,1,1,1,generator=g)<.5,-.8,1.2)  # smoother or sharper
    sets['broad finish']=(base+(base-b)*a*mk).clamp(0,1)
    small=[]
    for i in range(n):
        p=base[i].permute(1,2,0).numpy().copy(); r=np.random.default_rng(i)
        q=planting.scratch(p,float(r.uniform(25,70)),float(r.uniform(.08,.25)),r) if i%2 else planting.spot(p,float(r.uniform(4,12)),float(r.uniform(.1,.3)),r)
        small.append(torch.from_numpy(q.picture).permute(2,0,1))
    sets['small']=torch.stack(small)
out={}; c0=time.process_time()
with torch.no_grad():
  for k,x in sets.items():
    if k.startswith('mask'): out[k]=x; continue
    R=[]
    for i in range(0,len(x),8):
        xi=x[i:i+8].contiguous(memory_format=torch.channels_last)
        lat=m.encode(xi); low,high=lat.quantized_low,lat.quantized_high
        gen=m.decoder(m.join(low.features,high.features)); res=d.restrict(low,high)
        ev=res.evidence; seen=torch.cat((F.pixel_unshuffle(torch.cat((res.image,gen),1),4),ev.features),1)
        start=d.detection.first_guess(ev.rarity); un=d.detection.unet(torch.cat((seen,ev.rarity),1))
        R.append((low.indices.short(),high.indices.short(),ev.rarity,start[:,1:]-start[:,:1],un[:,1:]-un[:,:1]))
    out[k]=[torch.cat(v) for v in zip(*R)]
print('cpu',time.process_time()-c0); torch.save(out,f'e3{part}.pt')
