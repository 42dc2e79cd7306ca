# ruff: noqa
# mypy: ignore-errors
import torch
from subspect.detectors.dsr.normal_codes import NormalCodes
g=torch.Generator().manual_seed(0)
def codes(n): 
    base=torch.randint(0,16,(n,12,32,32),generator=g); return base
for name,folds in (('1 image',torch.zeros(1,dtype=torch.long)),('8 images, all fold 0',torch.zeros(8,dtype=torch.long)),('8 images, folds 0-3',torch.arange(8)//2)):
    n=NormalCodes(12,256); x=codes(len(folds)); n.fit([x],[folds]); 
    t=n(codes(1),None).together; print(name,'centre %.1f spread %.3f; new normal image z: mean %.1f'%(n.centre,n.spread,t.mean()))
