# ruff: noqa
# mypy: ignore-errors
# training whole-image codes -> cross-fold statistics (150 images), 26 s
import torch,time
from pathlib import Path
torch.set_num_threads(1); torch.manual_seed(1)
from subspect.storage import load_detector
from subspect.detectors.dsr.folds import fold_of_each
from subspect.runs.data import DataOptions
from subspect.images import read_image
d=load_detector(Path('runs/tile_0/detector')).eval(); m=d.latent_model
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
tr=t.select(split='train').samples; folds=fold_of_each(tr); ix=torch.randperm(len(tr))[:200]
L,H=[],[];c0=time.process_time()
with torch.no_grad():
    for i in range(0,200,8):
        x=torch.stack([d.prepare(read_image(tr[j].path)) for j in ix[i:i+8]]).contiguous(memory_format=torch.channels_last)
        l=m.encode(x); L.append(l.quantized_low.indices.short()); H.append(l.quantized_high.indices.short())
torch.save((torch.cat(L),torch.cat(H),folds[ix]),'e4.pt'); print('cpu',time.process_time()-c0)
