# ruff: noqa
# mypy: ignore-errors
import torch,time,numpy as np,csv
from pathlib import Path
torch.set_num_threads(1); torch.manual_seed(0)
from subspect.storage import load_detector
from subspect.detectors.dsr.folds import fold_of_each
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.runs.data import DataOptions
import torch.nn.functional as F
d=load_detector(Path('runs/tile_0/detector')).eval(); m=d.latent_model
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
tr=t.select(split='train').samples; cal=t.select(split='calibration').samples
print(len(tr),len(cal))
folds=fold_of_each(tr); print(torch.bincount(folds))
from subspect.images import read_image
ix=torch.randperm(len(tr))[:32]
ims=torch.stack([d.prepare(read_image(tr[i].path)) for i in ix]); fo=folds[ix]
pool=lambda p,s:F.avg_pool2d(p,s)
C=coordinates((256,256),'cpu')
@torch.no_grad()
def rar(x,places,f):
    l=m.encode(x); o=Origin(places,f)
    return [(q.indices,n(q.indices,Origin(pool(places,s),f))) for q,n,s in ((l.quantized_low,d.low_normal,8),(l.quantized_high,d.high_normal,4))]
c0=time.process_time()
W=rar(ims,C.expand(32,-1,-1,-1),fo); print('whole', time.process_time()-c0)
for name,step in (('offset any',1),('offset x16',16)):
    out=[]
    for rep in range(2):
        off=torch.randint(0,128//step+1,(32,2))*step
        x=torch.stack([ims[i][:,y:y+128,z:z+128] for i,(y,z) in enumerate(off.tolist())])
        p=torch.stack([C[:,y:y+128,z:z+128] for y,z in off.tolist()])
        R=rar(x,p,fo)
        for lv,s in ((0,8),(1,4)):
            a=R[lv][1].together[:,0]; n=128//s
            # same places whole
            o=(off/s).round().long()
            b=torch.stack([W[lv][1].together[i,0,y:y+n,z:z+n] if y+n<=256//s and z+n<=256//s else torch.full((n,n),float('nan')) for i,(y,z) in enumerate(o.tolist())])
            same=None
            if step==16:
                wi=torch.stack([W[lv][0][i,:,y:y+n,z:z+n] for i,(y,z) in enumerate(o.tolist())])
                same=(R[lv][0]==wi).float()
            ed=torch.minimum(torch.arange(n),n-1-torch.arange(n)); ring=torch.minimum(ed[:,None],ed[None])
            out.append((lv,a,b,same,ring))
    for lv in (0,1):
        a=torch.cat([o[1] for o in out if o[0]==lv]); b=torch.cat([o[2] for o in out if o[0]==lv]); ring=[o[4] for o in out if o[0]==lv][0]
        print(name,'low' if lv==0 else 'high','crop mean %.2f sd %.2f  q99 %.2f q999 %.2f | whole same places mean %.2f sd %.2f q99 %.2f q999 %.2f'%(a.mean(),a.std(),*a.flatten().quantile(torch.tensor([.99,.999])),b.nanmean(),b[~b.isnan()].std(),*b[~b.isnan()].quantile(torch.tensor([.99,.999]))))
        n=ring.max().item()+1
        print('   by ring from border (crop-whole):',[round((a[:,ring==r].mean()-b[:,ring==r].nanmean()).item(),2) for r in range(n)])
        if step==16:
            S=torch.cat([o[3] for o in out if o[0]==lv]); print('   same codes: all %.2f'%S.mean(),'by group',S.mean((0,2,3)).numpy().round(2),'by ring',[round(S[:,:,ring==r].mean().item(),2) for r in range(n)])
print('cpu',time.process_time()-c0)
