# ruff: noqa
# mypy: ignore-errors
import torch,time,numpy as np,torch.nn.functional as F
from pathlib import Path
from sklearn.metrics import average_precision_score as AP
torch.set_num_threads(1)
from subspect.storage import load_detector
from subspect.runs.data import DataOptions
from subspect.images import read_image
from subspect.probe import planting
d=load_detector(Path('runs/tile_0/detector')).eval()
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
cal=t.select(split='calibration').samples; pick=np.random.default_rng(0).permutation(len(cal))[:32]
x,mk=[],[]
for i,j in enumerate(pick):
    p=d.prepare(read_image(cal[j].path)).permute(1,2,0).numpy().copy(); r=np.random.default_rng(i)
    q=planting.scratch(p,float(r.uniform(25,70)),float(r.uniform(.08,.25)),r) if i%2 else planting.spot(p,float(r.uniform(4,12)),float(r.uniform(.1,.3)),r)
    x.append(torch.from_numpy(q.picture).permute(2,0,1)); mk.append(torch.from_numpy(q.mask))
from subspect.simulation.overlay import paint
from subspect.simulation.shapes import draw_masks
g=torch.Generator().manual_seed(1); b=torch.stack([d.prepare(read_image(cal[j].path)) for j in pick[:16]])
bm=draw_masks(16,(256,256),g,('bands',),0.); pb=paint(b,bm,g,('graft','grain','gain'))
c0=time.process_time()
with torch.no_grad():
    for nm,X,K in (('small',torch.stack(x),torch.stack(mk)),('bands graft/grain/gain',pb,bm[:,0]>0)):
        M,R=[],[]
        for i in range(0,len(X),8):
            c=d.reconstruct_and_detect(d.reorder(X[i:i+8].contiguous(memory_format=torch.channels_last))); M.append(c.mask[:,1]); R.append(d.refine(c)[:,1])
        M,R=torch.cat(M),torch.cat(R); k=K.flatten().numpy()
        print(nm,'pixel AP M %.3f refined %.3f mean of logits %.3f'%(AP(k,M.flatten().numpy()),AP(k,R.flatten().numpy()),AP(k,(M.logit(1e-6)+R.logit(1e-6)).flatten().numpy())),'cpu %.0f'%(time.process_time()-c0),flush=True)
