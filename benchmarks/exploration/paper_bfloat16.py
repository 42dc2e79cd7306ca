# ruff: noqa
# mypy: ignore-errors
import torch, numpy as np
from pathlib import Path
from subspect.storage import load_detector
from subspect.images import read_image
torch.set_num_threads(1)
d=load_detector(Path('runs/tile_paper/detector')).eval()
paths=[l.strip() for l in open('held_out.txt')][:4]
from subspect.detectors.dsr.model import Dsr
ims=torch.stack([d.prepare(read_image(Path(p))) for p in paths]).contiguous(memory_format=torch.channels_last)
def run(bf, mods=()):
    with torch.inference_mode(), torch.autocast('cpu',torch.bfloat16,enabled=bf):
        lat=d.latent_model.encode(d.reorder(ims))
        c=d.reconstruct_and_detect(d.reorder(ims))
        m=c.mask[:,1]
        r=d.refine(c)[:,1]
    return lat,c,m.float(),r.float(), d(ims).score if not bf else None
a=run(False); b=run(True)
print('score f32',a[4].tolist())
for n,x,y in (('low idx',a[0].quantized_low.indices,b[0].quantized_low.indices),('high idx',a[0].quantized_high.indices,b[0].quantized_high.indices)):
    print(n,'same',(x==y).float().mean().item())
print('general', (a[1].general-b[1].general).abs().mean().item(), 'specific',(a[1].specific-b[1].specific).abs().mean().item())
print('mask', (a[2]-b[2]).abs().mean().item(), (a[2]-b[2]).abs().max().item(), a[2].mean().item(), a[2].amax((1,2)).tolist(), b[2].amax((1,2)).tolist())
print('refined', (a[3]-b[3]).abs().mean().item(), a[3].mean().item())
with torch.inference_mode(), torch.autocast('cpu',torch.bfloat16):
    s=d(ims).score; print('score bf16',s.tolist())
