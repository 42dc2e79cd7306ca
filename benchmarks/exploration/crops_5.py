# ruff: noqa
# mypy: ignore-errors
import torch,numpy as np,torch.nn.functional as F
from pathlib import Path
from sklearn.metrics import roc_auc_score
torch.set_num_threads(1)
from subspect.storage import load_detector
d=load_detector(Path('runs/tile_0/detector')).eval()
A,B,Cc=torch.load('e3a.pt'),torch.load('e3b.pt'),torch.load('e3c.pt')
L,H,fo=torch.load('e4.pt')
S={'normal':[torch.cat(v) for v in zip(A['normal'],Cc['base'])],**{k:v for k,v in B.items() if not k.startswith('mask')}}
def groups(n,ix,f=None):
    from subspect.detectors.dsr.normal_codes import _cells_of_all
    return n._look_up(ix.long(),_cells_of_all(ix),f)
# cross-fold stats
gl=groups(d.low_normal,L,fo); gh=groups(d.high_normal,H,fo)
def tog(r): return F.avg_pool2d(r.sum(1,keepdim=True),3,1,1,count_include_pad=False)
stat={}
for k,r in (('l',tog(gl)),('h',tog(gh))):
    st=r.shape[-1]//16; c=F.avg_pool2d(r,st); mu=F.interpolate(r.mean(0,keepdim=True),scale_factor=1); 
    m0=F.avg_pool2d(r,st).mean(0,keepdim=True); v=F.avg_pool2d((r-F.interpolate(m0,scale_factor=st))**2,st).mean(0,keepdim=True)
    sm=lambda t:F.avg_pool2d(F.pad(t,(1,)*4,mode='replicate'),3,1)
    stat[k]=(F.interpolate(sm(m0),scale_factor=st),F.interpolate(sm(v).sqrt(),scale_factor=st)); print(k,'cell mean of together z: range',((m0-r.mean())/r.std()).flatten().quantile(torch.tensor([0,.1,.5,.9,1.])).numpy().round(2),'cell sd ratio',(v.sqrt()/r.std()).flatten().quantile(torch.tensor([0,.1,.5,.9,1.])).numpy().round(2))
def cellz(o):
    a=(tog(groups(d.low_normal,o[0]))-stat['l'][0])/stat['l'][1]; b=(tog(groups(d.high_normal,o[1]))-stat['h'][0])/stat['h'][1]
    return a,b
def up(x,f): return F.interpolate(x,scale_factor=f,mode='bilinear',align_corners=False)
def mx(x,w):  # w in px at 4px grid
    k=max(1,round(w/4)); k+=1-k%2
    return F.avg_pool2d(F.avg_pool2d(x,(k,1),1,(k//2,0),count_include_pad=False),(1,k),1,(0,k//2),count_include_pad=False).amax((1,2,3)) if k<60 else x.mean((1,2,3))
import collections
variants=collections.OrderedDict()
def add(n,f): variants[n]={k:f(o).numpy() for k,o in S.items()}
sg=torch.sigmoid
add('NOW prob start+.5un, w21',lambda o:mx(up(sg(o[3]+.5*o[4]),1),21))
for w in (9,21,41,61,101,256): add(f'prob half w{w}',lambda o,w=w:mx(sg(o[3]+.5*o[4]),w))
for w in (21,61): add(f'prob start w{w}',lambda o,w=w:mx(sg(o[3]),w))
for w in (21,61): add(f'prob trained w{w}',lambda o,w=w:mx(sg(o[3]+o[4]),w))
for w in (21,41,61,101,256): add(f'logit half w{w}',lambda o,w=w:mx(o[3]+.5*o[4],w))
for w in (21,41,61,101,256): add(f'rarity(start logit) w{w}',lambda o,w=w:mx(o[3],w))
for w in (21,41,61,101,256): add(f'cell-standardised rarity w{w}',lambda o,w=w:(lambda a,b:mx(up(a,2)+.5*b,w))(*cellz(o)))
for w in (41,101): add(f'cell-standardised LOW rarity w{w}',lambda o,w=w:(lambda a,b:mx(up(a,2),w))(*cellz(o)))
def comb(ns):
    out={}
    for k in S:
        out[k]=np.max([ (variants[n][k]-variants[n]['normal'].mean())/variants[n]['normal'].std() for n in ns],0)
    return out
variants['max z of (NOW, logit w61, logit w256)']=comb(['NOW prob start+.5un, w21','logit half w61','logit half w256'])
variants['max z of (NOW, cell w101)']=comb(['NOW prob start+.5un, w21','cell-standardised rarity w101'])
variants['sum z of (NOW, cell w101)']={k:sum((variants[n][k]-variants[n]['normal'].mean())/variants[n]['normal'].std() for n in ['NOW prob start+.5un, w21','cell-standardised rarity w101']) for k in S}
for n,v in variants.items():
    no=v['normal']
    print('%-42s'%n,*['%s %.3f'%(k,roc_auc_score([0]*len(no)+[1]*len(v[k]),np.r_[no,v[k]])) for k in v if k!='normal'],' paired gain:',*['%.2f'%(v[k]>no[64:]).mean() for k in v if k!='normal'])
