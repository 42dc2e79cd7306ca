# ruff: noqa
# fmt: off
"""Detection module alone; evidence from frequencies of codes."""
import argparse,time,math,dataclasses,numpy as np,torch,torch.nn.functional as F,sys
pass
A=argparse.ArgumentParser(); E=A.add_argument
E("--label",default="");E("--secs",type=float,default=200);E("--seed",type=int,default=0);E("--folds",type=int,default=2);E("--sigma",type=float,default=1.);E("--alpha",type=float,default=10.)
E("--white",type=int,default=0);E("--ring",type=int,default=0);E("--lr",type=float,default=5e-4);E("--width",type=int,default=40);E("--image_share",type=float,default=.5);E("--normal",type=float,default=.4);E("--lim",type=int,default=90);E("--pix",type=int,default=1);E("--test",type=int,default=1);E("--nllw",type=float,default=1.);E("--save",default="");E("--part",type=float,default=0);E("--small",type=int,default=0)
a=A.parse_args()
from closed import *
from hist_lib import nll
from subspect.detectors.dsr.light_modules import LightUNet
from subspect.detectors.dsr.simulation import LatentSimulator
from subspect.detectors.initialisation import zero_start
from subspect.simulation.shapes import draw_masks
from subspect.simulation.cropping import crop_randomly
torch.manual_seed(a.seed); m=d.latent_model.to(memory_format=torch.channels_last)
sim=dataclasses.replace(PRESETS["fast"].simulation,image_share=a.image_share); simulator=LatentSimulator(m,sim); g=torch.Generator().manual_seed(a.seed)
from subspect.detectors.dsr.quantizer import Quantized
if a.part:
    old=simulator._exchange
    def ex(codebook,features,indices,mask,generator):
        out=old(codebook,features,indices,mask,generator); N,G=indices.shape[:2]
        share=torch.rand(N,1,generator=generator)**a.part; pick=torch.rand(N,G,generator=generator)<share
        pick[torch.arange(N),torch.randint(G,(N,),generator=generator)]=True
        ix=torch.where(pick[:,:,None,None],out.indices,indices); return Quantized(codebook.lookup(ix),ix)
    simulator._exchange=ex
fit=torch.from_numpy(z["fit"]); n=len(fit); half=torch.arange(n)*a.folds//n
def table(level,ix):
    X=C["fit"][level][ix].long(); N,G,h,w=X.shape; r=3; k1=torch.exp(-.5*(torch.arange(-r,r+1).float()/a.sigma)**2); T=torch.empty(G,256,h,w)
    for q in range(G):
        cnt=torch.zeros(256,h,w); cnt.view(256,-1).scatter_add_(0,X[:,q].flatten(1),torch.ones(N,h*w)); glob=cnt.sum((1,2))/cnt.sum()
        c=F.conv2d(F.conv2d(F.pad(cnt[:,None],(r,r,r,r),mode="replicate"),k1[None,None,:,None]),k1[None,None,None,:])[:,0]
        T[q]=-((c+a.alpha*glob[:,None,None]+1e-4)/(c.sum(0)+a.alpha)).log()
    return T
with torch.no_grad():
    ALL=[table(l,torch.arange(n)) for l in (0,1)]
    FOLD=[[table(l,(half!=f).nonzero()[:,0]) for l in (0,1)] for f in range(a.folds)] if a.folds>1 else [ALL]
def look(T,idx,offs=None):
    """T (G,256,h,w), idx (N,G,hh,ww) -> (N,G,hh,ww)"""
    N,G,hh,ww=idx.shape; h,w=T.shape[2:]
    y=torch.arange(hh)[None,:].expand(N,hh); x=torch.arange(ww)[None].expand(N,ww)
    if offs is not None: y=y+offs[:,:1]; x=x+offs[:,1:]
    pos=(y[:,:,None]*w+x[:,None,:])[:,None]
    return T.flatten()[(torch.arange(G)[None,:,None,None]*256+idx)*(h*w)+pos]
# normalisation of sums from honest (cross-fitted) values
st=[]
with torch.no_grad():
    for l in (0,1):
        s=torch.cat([look(FOLD[half[i]][l],C["fit"][l][i:i+1].long()).sum(1) for i in range(0,n,6)]); st.append((s.mean(),s.std()))
        print("level",l,"mean std",st[-1],"in-sample",torch.cat([look(ALL[l],C["fit"][l][i:i+1].long()).sum(1) for i in range(0,n,30)]).mean(),"val",torch.cat([look(ALL[l],C["val"][l][i:i+1].long()).sum(1) for i in range(0,90,6)]).mean())
dbl=lambda t:F.interpolate(t,scale_factor=2,mode="bilinear",align_corners=False)
S3=lambda t:F.avg_pool2d(t,3,1,1,count_include_pad=False)
W1=torch.tensor([-.5,.5])[None,:,None,None]; BIAS=None
if a.white: N1,N2=Normal("low"),Normal("high")
gw,ch=12+8,0
net=LightUNet(2+20+(96 if a.pix else 0)+(512 if a.white else 0),a.width).to(memory_format=torch.channels_last); zero_start(net.out)
def evid(il,ih,Tl,Th,offs):
    nl=torch.cat([look(Tl[i],il[i:i+1],None if offs is None else offs[i:i+1]//8) for i in range(len(il))]) if isinstance(Tl,list) else look(Tl,il,offs)
    nh=torch.cat([look(Th[i],ih[i:i+1],None if offs is None else offs[i:i+1]//4) for i in range(len(ih))]) if isinstance(Th,list) else look(Th,ih,offs)
    sl=S3((nl.sum(1,keepdim=True)-st[0][0])/st[0][1]); sh=.5*S3((nh.sum(1,keepdim=True)-st[1][0])/st[1][1])
    return torch.cat((dbl(nl),nh),1)/4,torch.cat((dbl(sl),sh),1)
def logits(low,high,il,ih,Tl,Th,offs=None,trust=1.):
    ev,s=evid(il,ih,Tl,Th,offs); start=W1*0.5*(s.sum(1,keepdim=True)-BIAS)
    parts=[s,ev]
    if a.pix:
        gen=m.decoder(m.join(low,high)); pu=F.pixel_unshuffle(gen,4); parts.append(torch.cat((pu,pu),1) )
    if a.white:
        def wh(N,f,st_):
            if offs is None: M,S=N.mean[None],N.scale[None]
            else: M=torch.stack([N.mean[:,y:y+f.shape[2],x:x+f.shape[3]] for y,x in (offs//st_).tolist()]); S=torch.stack([N.scale[:,y:y+f.shape[2],x:x+f.shape[3]] for y,x in (offs//st_).tolist()])
            return torch.asinh(F.conv2d(f-M,N.W[:,:,None,None])/S.sqrt())
        parts.append(torch.cat((dbl(wh(N1,low,8)),wh(N2,high,4)),1))
    u=net(torch.cat(parts,1).contiguous(memory_format=torch.channels_last))
    r=lambda t:F.interpolate(t,scale_factor=4,mode="bilinear",align_corners=False)
    return r(start),r(start+u),r(start+.5*u)
with torch.no_grad():
    v=torch.cat([dbl((look(ALL[0],C["fit"][0][i:i+1].long()).sum(1,keepdim=True)-st[0][0])/st[0][1])+S3((look(ALL[1],C["fit"][1][i:i+1].long()).sum(1,keepdim=True)-st[1][0])/st[1][1]) for i in range(0,n,6)])
    v=torch.cat([evid(C["fit"][0][i:i+1].long(),C["fit"][1][i:i+1].long(),FOLD[half[i]][0],FOLD[half[i]][1],None)[1].sum(1) for i in range(0,n,6)])
    BIAS=v.flatten()[::7].quantile(.999).item(); print("bias",BIAS)
@torch.no_grad()
def maps(k,lim):
    o=[[],[],[]]
    for i in range(0,min(lim,len(C[k][0])),8):
        sl=slice(i,min(i+8,lim)); il,ih=C[k][0][sl].long(),C[k][1][sl].long()
        for q,t in zip(o,logits(m.low_codebook.lookup(il),m.high_codebook.lookup(ih),il,ih,ALL[0],ALL[1])): q.append((t[:,1:]-t[:,:1]).sigmoid())
    return [torch.cat(q) for q in o]
def full(tag):
    net.eval(); M={k:maps(k,a.lim if k!="test" else 9999) for k in ("val","planted","small")+(("test",) if a.test else ())}
    for k in ("planted","small"): MASK[k],KIND[k]=MASK[k][:a.lim],KIND[k][:a.lim]
    for i,nm in enumerate(("start","trained","half")):
        report(f"{tag} {nm}",lambda k:M[k][i],sets=[k for k in M if k!="val"],scores=(9,21))
        sc=lambda q:F.avg_pool2d(q,9,1,4).amax((1,2,3)); tl=torch.from_numpy(lab)
        print("   quantiles .1 .5 .9 .98 of scores: val",sc(M["val"][i]).quantile(torch.tensor([.1,.5,.9,.98])).numpy().round(3),"test normal",sc(M["test"][i][~tl]).quantile(torch.tensor([.1,.5,.9,.98])).numpy().round(3),"planted",sc(M["planted"][i]).quantile(torch.tensor([.1,.5,.9,.98])).numpy().round(3),"test defects",sc(M["test"][i][tl]).quantile(torch.tensor([.1,.5,.9,.98])).numpy().round(3),flush=True)
    net.train()
opt=torch.optim.AdamW(net.parameters(),lr=a.lr,weight_decay=.01); cpu=time.process_time(); step=0; fl=[]
while True:
    pr=(time.process_time()-cpu)/a.secs
    if pr>=1: break
    for q in opt.param_groups: q["lr"]=a.lr*min(1,(step+1)/20)*(.5*(1+math.cos(math.pi*pr)))
    ix=torch.randint(n,(8,),generator=g); o=torch.randint(0,17,(8,2),generator=g)*8
    im=torch.stack([fit[i][y:y+128,x:x+128] for i,(y,x) in zip(ix,o.tolist())]); im=(im.float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last)
    mask=draw_masks(8,(128,128),g,sim.shapes,a.normal)
    with torch.no_grad():
        an=simulator(im,m.encode(im),mask,g); low,high=an.low,an.high
        il,ih=low.indices,high.indices; low,high=low.features,high.features
    T=[FOLD[half[i]] if a.folds>1 else ALL for i in ix]
    _,lg,_=logits(low,high,il,ih,[t[0] for t in T],[t[1] for t in T],o)
    p=lg.softmax(1); t=an.mask; pt=torch.where(t>0,p[:,1:],p[:,:1]).clamp(1e-5); fo=-(1-pt)**2*pt.log()
    if a.ring: fo=fo*(1-(F.max_pool2d(t,2*a.ring+1,1,a.ring)-t))
    if a.small: nn_=t.sum((1,2,3),keepdim=True).clamp(min=1); fo=fo*torch.where(t>0,(1500/nn_).sqrt().clamp(1,8),torch.ones_like(t))
    loss=fo.mean(); opt.zero_grad(); loss.backward(); opt.step(); step+=1; fl.append(loss.item())
    if step%25==0: print(step,round(float(np.mean(fl[-25:])),4),round(time.process_time()-cpu),flush=True)
full(a.label)
if a.save: torch.save(net.state_dict(),a.save)
