# ruff: noqa
# mypy: ignore-errors
import torch,numpy as np,torch.nn.functional as F,time
from sklearn.metrics import roc_auc_score
torch.set_num_threads(1)
from subspect.detectors.dsr import normal_codes as NC
c0=time.process_time()
P=[torch.load(f) for f in ('e4.pt','e4b.pt')]; L,H,fo=[torch.cat(v) for v in zip(*P)]; L,H=L.long(),H.long(); N=len(L)
A,B,Cc=torch.load('e3a.pt'),torch.load('e3b.pt'),torch.load('e3c.pt')
S={'normal':[torch.cat(v) for v in zip(A['normal'],Cc['base'])],**{k:v for k,v in B.items() if not k.startswith('mask')}}
S={k:(v[0].long(),v[1].long()) for k,v in S.items()}
def hist(l,h):
    out=[]
    for x in (l,h):
        n,G=x.shape[:2]; b=(torch.arange(G)[None,:,None]*256+x.flatten(2))+torch.arange(n)[:,None,None]*G*256
        out.append((torch.bincount(b.flatten(),minlength=n*G*256).view(n,-1).float()/x[0,0].numel()).sqrt())
    return torch.cat((out[0]/12**.5,.5*out[1]/8**.5),1)
TH=hist(L,H)
def cnt(x):  # (G,K,16,16)
    G=x.shape[1]; b=(torch.arange(G)[:,None,None]*256+x)*256+NC._cells_of_all(x)
    return torch.bincount(b.flatten(),minlength=G*65536).view(G,256,16,16).float()*(256/(x.shape[2]*x.shape[3]))
def table(x,prior=None,w=10.):
    c=cnt(x)
    if prior is None: return -NC._probabilities(c).log()
    near=NC._blurred(c); p=(-prior).exp(); return -((near+w*p)/(near.sum(1,keepdim=True)+w)).log()
def look(T,x):
    G=x.shape[1]; return T.flatten()[(torch.arange(G)[:,None,None]*256+x)*256+NC._cells_of_all(x)]
tog=lambda r:F.avg_pool2d(r.sum(1,keepdim=True),3,1,1,count_include_pad=False)
def mx(x,w):
    k=max(1,round(w/4)); k+=1-k%2
    if k>=60: return x.mean((1,2,3))
    return F.avg_pool2d(F.avg_pool2d(x,(k,1),1,(k//2,0),count_include_pad=False),(1,k),1,(0,k//2),count_include_pad=False).amax((1,2,3))
up=lambda x:F.interpolate(x,scale_factor=2,mode='bilinear',align_corners=False)
def report(tag,maps):
    for nm,f in (('w21',lambda m:mx(m,21)),('w61',lambda m:mx(m,61)),('mean',lambda m:mx(m,256)),('w21-median',lambda m:mx(m-m.flatten(1).median(1)[0][:,None,None,None],21)),('w61-median',lambda m:mx(m-m.flatten(1).median(1)[0][:,None,None,None],61)),('w101-median',lambda m:mx(m-m.flatten(1).median(1)[0][:,None,None,None],101))):
        v={k:f(m).numpy() for k,m in maps.items()}; no=v['normal']
        print('%-28s %-12s'%(tag,nm),*['%s %.3f'%(k,roc_auc_score([0]*len(no)+[1]*len(x),np.r_[no,x])) for k,x in v.items() if k!='normal'],flush=True)
GT=[table(L),table(H)]
sd=(tog(look(GT[0],L[:100])).std(),tog(look(GT[1],H[:100])).std())
report('global',{k:up(tog(look(GT[0],l)))/sd[0]+.5*tog(look(GT[1],h))/sd[1] for k,(l,h) in S.items()})
print('cpu',time.process_time()-c0,flush=True)
for nn,w in ((80,10.),(80,60.)):
    maps={}
    for k,(l,h) in S.items():
        D=torch.cdist(hist(l,h),TH); out=[]
        for i in range(len(l)):
            ix=D[i].topk(nn,largest=False).indices
            out.append(up(tog(look(table(L[ix],GT[0],w),l[i:i+1])))/sd[0]+.5*tog(look(table(H[ix],GT[1],w),h[i:i+1]))/sd[1])
        maps[k]=torch.cat(out)
    report(f'{nn} nearest images, prior {w:g}',maps); print('cpu',time.process_time()-c0,flush=True)
