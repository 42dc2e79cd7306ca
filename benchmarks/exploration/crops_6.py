# ruff: noqa
# mypy: ignore-errors
# cells: training vs inference for sizes that are no multiple of 32; folds of uneven groups; annotated defects lost
import torch
from subspect.detectors.dsr.normal_codes import _cells_at,_cells_of_all,coordinates
from subspect.sizes import pad_to_multiple
import torch.nn.functional as F
for s in ((240,240),(100,100),(300,300),(640,232),(256,256),(64,64)):
    c=coordinates(s,'cpu')[None]; p,_=pad_to_multiple(c,32); h,w=p.shape[2]//8,p.shape[3]//8
    a=_cells_at(F.avg_pool2d(p,8))[0,0]; b=_cells_of_all(torch.zeros(1,1,h,w,dtype=torch.long))
    real=torch.zeros(h,w,dtype=torch.bool); real[:-(-s[0]//8),:-(-s[1]//8)]=True
    print(s,'share of low codes compared with another cell than counted: %.2f'%((a!=b)&real)[real].float().mean().item(),'largest shift in columns',(a%16-b%16)[real].abs().max().item())
from subspect.detectors.dsr.folds import fold_of_each
from subspect.datasets.table import Sample
from pathlib import Path
def f(sizes): 
    s=[Sample(Path(f'{g}_{i}.png'),'train','c',group=f'g{g}') for g,n in enumerate(sizes) for i in range(n)]
    return torch.bincount(fold_of_each(s),minlength=4).tolist()
for sizes in ((2,2,2,94),(94,2,2,2),(1,1,1,1,96),(30,30,30,10),(7,93,10,10)): print(sizes,f(sizes))
