# ruff: noqa
# mypy: ignore-errors
import torch,time,numpy as np,dataclasses
from pathlib import Path
torch.set_num_threads(1); torch.manual_seed(0)
from subspect.storage import load_detector
from subspect.detectors.dsr.folds import fold_of_each
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.detectors.dsr.simulation import LatentSimulator
from subspect.simulation.shapes import draw_masks
from subspect.simulation.perlin import pool_mask
from subspect.runs.data import DataOptions
from subspect.images import read_image
import torch.nn.functional as F
d=load_detector(Path('runs/tile_0/detector')).eval(); m=d.latent_model
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
tr=t.select(split='train').samples; folds=fold_of_each(tr)
ix=torch.randperm(len(tr))[:16]
ims=torch.stack([d.prepare(read_image(tr[i].path)) for i in ix]); fo=folds[ix]
C=coordinates((256,256),'cpu').expand(16,-1,-1,-1)
g=torch.Generator().manual_seed(0)
def z(low,high):
    a=d.low_normal(low.indices,Origin(F.avg_pool2d(C,8),fo)).together; b=d.high_normal(high.indices,Origin(F.avg_pool2d(C,4),fo)).together
    return a,b
def q(x): return 'mean %.2f q10 %.2f q50 %.2f q90 %.2f'%(x.mean(),*x.quantile(torch.tensor([.1,.5,.9])))
c0=time.process_time()
with torch.no_grad():
    lat=m.encode(ims); z0=z(lat.quantized_low,lat.quantized_high)
    print('normal low',q(z0[0].flatten()),'high',q(z0[1].flatten()))
    for name,kw in [('latent',dict(image_share=0.))]+[('latent min %.2f near %.2f'%(s,n),dict(image_share=0.,minimum_strength=s,nearest_share=n)) for s,n in ((0.0,0.0),)]+[(f,dict(image_share=1.,fills=(f,))) for f in ('colour','gain','grain','graft')]:
        sim=LatentSimulator(m,dataclasses.replace(d.config.simulation,**kw))
        mask=draw_masks(16,(256,256),g,('bands','blobs','perlin'),0.)
        an=sim(ims,lat,mask,g); a,b=z(an.low,an.high)
        ml=pool_mask(an.mask,8)>0; mh=pool_mask(an.mask,4)>0
        inner=F.avg_pool2d(an.mask,8)==1
        ch=(an.low.indices!=lat.quantized_low.indices).float().mean(1,keepdim=True)
        print('%-24s'%name,'low',q(a[ml]),'| high',q(b[mh]),'| low codes changed inside %.2f'%ch[inner].mean(),' nothing of low changed %.2f, <1/4 %.2f'%((ch[inner]==0).float().mean(),(ch[inner]<.25).float().mean()))
        per=[(a[i][ml[i]].median().item()) for i in range(16) if ml[i].any()]; print('     per-image median low z:',np.round(sorted(per),1))
print('cpu',time.process_time()-c0)
