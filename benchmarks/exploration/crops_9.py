# ruff: noqa
# mypy: ignore-errors
import torch,time,numpy as np
from pathlib import Path
torch.set_num_threads(1); torch.manual_seed(2)
from subspect.storage import load_detector
from subspect.detectors.dsr.folds import fold_of_each
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.detectors.dsr.quantizer import Quantized
from subspect.runs.data import DataOptions
from subspect.images import read_image
import torch.nn.functional as F
d=load_detector(Path('runs/tile_0/detector')).eval(); m=d.latent_model
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
tr=t.select(split='train').samples; folds=fold_of_each(tr); ix=torch.randperm(len(tr))[:12]
x=torch.stack([d.prepare(read_image(tr[i].path)) for i in ix]).contiguous(memory_format=torch.channels_last); fo=folds[ix]
C=coordinates((256,256),'cpu').expand(12,-1,-1,-1)
@torch.no_grad()
def run(low,high,o):
    gen=m.decoder(m.join(low.features,high.features)); r=d.restrict(low,high,o)
    seen=torch.cat((F.pixel_unshuffle(torch.cat((r.image,gen),1),4),r.evidence.features),1)
    st=d.detection.first_guess(r.evidence.rarity); un=d.detection.unet(torch.cat((seen,r.evidence.rarity),1))
    return (r.low-low.features),(r.high-high.features),r.evidence.rarity,st[:,1:]-st[:,:1],un[:,1:]-un[:,:1],(r.image-gen).abs()
with torch.no_grad():
    l=m.encode(x); ql,qh=l.quantized_low,l.quantized_high
    c0=time.process_time(); m.high_codebook(l.high); print('requantise high of 12 whole images: %.2f s'%(time.process_time()-c0))
    W=run(ql,qh,Origin(C,fo))
    # crops 64..192: three ways: crop encoded as crop (now); whole codes cut
    y0=64
    xc=x[:,:,64:192,64:192].contiguous(memory_format=torch.channels_last); Cc=C[:,:,64:192,64:192]
    lc=m.encode(xc); K=run(lc.quantized_low,lc.quantized_high,Origin(Cc,fo))
    cut=lambda q,s:Quantized(q.features[:,:,64//s:192//s,64//s:192//s].contiguous(),q.indices[:,:,64//s:192//s,64//s:192//s].contiguous())
    V=run(cut(ql,8),cut(qh,4),Origin(Cc,fo))
c=lambda a:a[...,a.shape[-2]//4:3*a.shape[-2]//4,a.shape[-1]//4:3*a.shape[-1]//4]
names=['|F-Q| low','|F-Q| high','rarity','start logit','learnt correction','|spc-gen|']
for i,n in enumerate(names):
    f=(lambda a:a.abs().mean().item()) if i<2 or i==5 else (lambda a:a.mean().item())
    print('%-18s whole(centre) %.3f | crop as trained %.3f | whole codes cut %.3f'%(n,f(c(W[i])),f(K[i]),f(V[i])))
un=W[4]; z=W[3]
for lo,hi in ((-9,-4),(-4,-2),(-2,0),(0,9)):
    for nm,R in (('whole',[c(W[3]),c(W[4])]),('crop',[K[3],K[4]])):
        k=(R[0]>=lo)&(R[0]<hi); print('  start logit in [%d,%d) %-6s share %.4f mean learnt correction %.2f'%(lo,hi,nm,k.float().mean(),R[1][k].mean() if k.any() else float('nan')))
ring=torch.minimum(torch.arange(32),31-torch.arange(32)); ring=torch.minimum(ring[:,None],ring[None])
print('by ring of 4px in crop: start',[round(K[3][:,0][:,ring==r].mean().item(),1) for r in range(16)]); print('   learnt',[round(K[4][:,0][:,ring==r].mean().item(),1) for r in range(16)])
# latent PaDiM: does the network's false alarm on crops exist
from subspect.runs import configured
from subspect.detectors.dsr.config import PRESETS
for s in ((),('refine=false',)):
    q=configured(PRESETS['fast'],settings=s,steps=1100); print(s,q.detection_stage.steps,q.upsampling_stage.steps)
