# ruff: noqa
# mypy: ignore-errors
import torch
from subspect.simulation.rotation import rotate_some
g=torch.Generator().manual_seed(0)
for h,w in ((1,1),(1,12),(2,2),(3,3)):
    m=torch.zeros(400,1,128,128)
    for i in range(400):
        y,x=torch.randint(40,76,(2,),generator=g).tolist(); m[i,0,y:y+h,x:x+w]=1
    r=rotate_some(m,1.0,g); print((h,w),'defects near the centre (still in the picture) whose mask is empty after rotation: %.2f'%(~(r>.5).flatten(1).any(1)).float().mean(),'kept area %.2f'%((r>.5).sum()/m.sum()))
