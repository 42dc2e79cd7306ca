# ruff: noqa
# mypy: ignore-errors
import torch,time,numpy as np,sys,math,dataclasses,torch.nn.functional as F
from pathlib import Path
from sklearn.metrics import roc_auc_score
torch.set_num_threads(1); mode=sys.argv[1]; torch.manual_seed(0)
from subspect.storage import load_detector
from subspect.detectors.dsr.folds import fold_of_each
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.detectors.dsr.light_modules import LightDetection
from subspect.detectors.dsr.simulation import LatentSimulator
from subspect.detectors.dsr.latent_model import Latents
from subspect.detectors.dsr.quantizer import Quantized
from subspect.simulation.shapes import draw_masks
from subspect.losses import focal_loss
from subspect.runs.data import DataOptions
from subspect.images import read_image
from subspect.detectors.dsr.blocks import doubled
d=load_detector(Path('runs/tile_0/detector')).eval(); m=d.latent_model
c0=time.process_time()
t=DataOptions('data/magnetic_tile','magnetic_tile',None,0).read()
tr=t.select(split='train').samples; folds=fold_of_each(tr); torch.manual_seed(1); ix=torch.randperm(len(tr))[:200]; fo=folds[ix]
L,H,_=torch.load('e4.pt'); NC=128
off=torch.randint(0,9,(NC,2),generator=torch.Generator().manual_seed(3))*16
C=coordinates((256,256),'cpu'); places=torch.stack([C[:,y:y+128,x:x+128] for y,x in off.tolist()])
with torch.no_grad():
    if mode=='crop':
        lo,hi=[],[]
        for i in range(0,NC,8):
            x=torch.stack([d.prepare(read_image(tr[ix[j]].path))[:,off[j,0]:off[j,0]+128,off[j,1]:off[j,1]+128] for j in range(i,i+8)]).contiguous(memory_format=torch.channels_last)
            l=m.encode(x); lo.append(l.quantized_low.indices); hi.append(l.quantized_high.indices)
        lo,hi=torch.cat(lo),torch.cat(hi)
    else:
        lo=torch.stack([L[j,:,y//8:y//8+16,x//8:x//8+16] for j,(y,x) in enumerate(off.tolist())]).long(); hi=torch.stack([H[j,:,y//4:y//4+32,x//4:x//4+32] for j,(y,x) in enumerate(off.tolist())]).long()
print('prepared',time.process_time()-c0,flush=True)
sim=LatentSimulator(m,dataclasses.replace(d.config.simulation,image_share=0.))
ex=sim._exchange
def one(cb,f,i,mask,gen):
    o=ex(cb,f,i,mask,gen); N,G=i.shape[:2]; n=torch.randint(1,G//2+1,(N,1),generator=gen)
    keep=torch.rand(N,G,generator=gen).argsort(1).argsort(1)<n
    ixs=torch.where(keep[:,:,None,None],o.indices,i); return type(o)(cb.lookup(ixs),ixs)
sim._exchange=one
det=LightDetection(20,40); det.train()
def logits(li,hh,o):
    p=lambda s:None if o is None else Origin(F.avg_pool2d(o.places,s),o.folds)
    a=d.low_normal(li,p(8)); b=d.high_normal(hh,p(4)); fl=doubled(torch.cat((a.groups/4,a.together),1))
    r=torch.cat((fl[:,-1:],b.together),1); z=det(torch.cat((fl[:,:-1],b.groups/4),1),r)
    return z if o is not None else (z,det.first_guess(r))
def test(tag):
    det.eval()
    A,B,Cc=torch.load('e3a.pt'),torch.load('e3b.pt'),torch.load('e3c.pt')
    S={'normal':[torch.cat(v) for v in zip(A['normal'],Cc['base'])],**{k:v for k,v in B.items() if not k.startswith('mask')}}
    v={n:{} for n in ('start','half','trained')}
    with torch.no_grad():
        for k,o in S.items():
            for n in v: v[n][k]=[]
            for i in range(0,len(o[0]),8):
                h,st=logits(o[0][i:i+8].long(),o[1][i:i+8].long(),None)
                for n,full in (('start',st),('half',h),('trained',2*h-st)):
                    pr=F.interpolate(full,scale_factor=4,mode='bilinear').softmax(1)[:,1:]; w=F.avg_pool2d(F.avg_pool2d(pr,(1,21),1,(0,10)),(21,1),1,(10,0)); v[n][k]+=w.amax((1,2,3)).tolist()
    for n in v: print(mode,n,*['%s %.3f'%(k,roc_auc_score([0]*96+[1]*len(x),v[n]['normal']+x)) for k,x in v[n].items() if k!='normal'],'normal q50 %.3f q90 %.3f'%(np.quantile(v[n]['normal'],.5),np.quantile(v[n]['normal'],.9)),'cpu %.0f'%(time.process_time()-c0),flush=True)
g=torch.Generator().manual_seed(0); ST=110; opt=torch.optim.Adam(det.parameters(),lr=5e-4); ls=[]
for s in range(ST):
    for q in opt.param_groups: q['lr']=5e-4*((s+1)/27 if s<27 else .5*(1+math.cos(math.pi*(s-27)/(ST-27))))
    j=torch.randint(NC,(8,),generator=g); mask=draw_masks(8,(128,128),g,d.config.simulation.shapes,.4)
    with torch.no_grad():
        ql=Quantized(m.low_codebook.lookup(lo[j]),lo[j]); qh=Quantized(m.high_codebook.lookup(hi[j]),hi[j])
        an=sim(torch.zeros(8,3,128,128),Latents(qh.features,ql.features,qh.features,ql,qh),mask,g)
    z=F.interpolate(logits(an.low.indices,an.high.indices,Origin(places[j],fo[j])),scale_factor=4,mode='bilinear')
    loss=focal_loss(z.softmax(1),an.mask); opt.zero_grad(); loss.backward(); opt.step(); ls.append(loss.item())
    if (s+1)%10==0: print(s+1,round(np.mean(ls[-10:]),4),'cpu %.0f'%(time.process_time()-c0),flush=True)
    if time.process_time()-c0>48: print('stopped',s); break
test('half')
