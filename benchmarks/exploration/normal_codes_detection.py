# ruff: noqa
# fmt: off
"""Detection module alone on the package's latents; what trains it is varied."""
import argparse,time,math,dataclasses,numpy as np,torch,torch.nn.functional as F,sys
from subspect.detectors.dsr.config import PRESETS,SimulationConfig
from subspect.detectors.dsr.model import Dsr,Restricted
import subspect.detectors.dsr.simulation as S
from subspect.simulation.shapes import draw_masks
from subspect.simulation.overlay import paint
from subspect.losses import focal_loss
from subspect.metrics import image_auroc,pixel_ap
A=argparse.ArgumentParser(); E=A.add_argument
E("--label",default="");E("--secs",type=float,default=200);E("--image_share",type=float,default=.5);E("--crop",type=int,default=128);E("--batch",type=int,default=8)
E("--normal",type=float,default=.4);E("--seed",type=int,default=0);E("--test",type=int,default=0);E("--keep",type=float,default=0.);E("--min_strength",type=float,default=.2)
E("--norm",default="instance");E("--pix",type=int,default=1);E("--save",default="");E("--hi_only",type=int,default=0);E("--lr",type=float,default=1e-3);E("--shapes",default="perlin,blobs,strokes,bands");E("--unq",type=int,default=0);E("--loss",default="focal");E("--width",type=int,default=40)
E("--clip",type=float,default=0);E("--skip",type=int,default=0);E("--noq",type=int,default=0);E("--stat",type=int,default=0);E("--dist",type=int,default=1);E("--multi",type=int,default=0);E("--coord",type=int,default=0);E("--lim",type=int,default=90);E("--mask",default="cells")
a=A.parse_args(); torch.set_num_threads(1); torch.manual_seed(a.seed)
cfg=PRESETS["fast"]; sim=dataclasses.replace(cfg.simulation,image_share=a.image_share,minimum_strength=a.min_strength); cfg=dataclasses.replace(cfg,simulation=sim,detection_width=a.width)
d=Dsr(cfg); d.start(None); m=d.latent_model
if a.stat: from subspect.detectors.dsr.light_modules import LightUNet; d.detection=LightUNet(6*16+2*512+2,a.width)
d=d.to(memory_format=torch.channels_last)
if a.norm!="instance":
    from subspect.detectors.dsr.blocks import PreActivationBlock
    for b in d.detection.modules():
        if isinstance(b,PreActivationBlock):
            c=b.conv1.in_channels
            for n in ("norm1","norm2"): setattr(b,n,torch.nn.BatchNorm2d(c) if a.norm=="batch" else torch.nn.GroupNorm(1,c) if a.norm=="layer" else torch.nn.Identity())
z=np.load("mt.npz"); fit=torch.from_numpy(z["fit"])
sm=np.load("small.npz")
g=torch.Generator().manual_seed(a.seed)
simulator=S.LatentSimulator(m,sim)
if a.keep:  # exchange only in a random subset of the groups: keep share of groups unexchanged
    old=simulator._exchange
    def ex(codebook,features,indices,mask,generator):
        out=old(codebook,features,indices,mask,generator); orig=codebook(features).features if False else None
        books=codebook.books(features,indices); res=[]; i=0
        pick=torch.rand(len(mask),len(books),generator=generator)>a.keep
        pick[torch.arange(len(mask)),torch.randint(len(books),(len(mask),),generator=generator)]=True
        for k,(book,part,places) in enumerate(books):
            w=book.codes.shape[1]; o=out[:,i:i+w]; res.append(torch.where(pick[:,k,None,None,None],o,book.lookup(places))); i+=w
        return torch.cat(res,1)
    simulator._exchange=ex
if a.stat:
    @torch.no_grad()
    def gather():
        X=z["fit"][::2]; acc={}
        for k in ("low","high"): acc[k]=[]
        for i in range(0,len(X),8):
            im=(torch.from_numpy(X[i:i+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last); q=m.encode(im)
            acc["low"].append(q.quantized_low.features.half()); acc["high"].append(q.quantized_high.features.half())
        st={}
        for k,v in acc.items():
            v=torch.cat(v); mu=v.float().mean(0); n=0; ss=0
            for c in v.split(16):
                r=(c.float()-mu).permute(1,0,2,3).flatten(1); ss=ss+(r@r.T).double(); n+=r.shape[1]
            cov=ss/n; w,V=torch.linalg.eigh(cov+.01*cov.diagonal().mean()*torch.eye(len(cov))); W=(V*w.rsqrt()@V.T).float(); s=0
            for c in v.split(16): s=s+torch.einsum("dc,nchw->ndhw",W,c.float()-mu).square().mean(1).sum(0)
            st[k]=(mu,W,(s/len(v)).sqrt())
        return st
    import os
    ST=torch.load("st.pt") if os.path.exists("st.pt") else gather(); torch.save(ST,"st.pt")
def whiten(k,f,offs):
    mu,W,s=ST[k]; st=8 if k=="low" else 4; h,w=f.shape[2:]
    if offs is None: M,S_=mu[None],s[None]
    else: M=torch.stack([mu[:,y//st:y//st+h,x//st:x//st+w] for y,x in offs]); S_=torch.stack([s[y//st:y//st+h,x//st:x//st+w] for y,x in offs])
    if a.stat==3:
        sd=SD[k]; sd=sd[None] if offs is None else torch.stack([sd[:,y//st:y//st+h,x//st:x//st+w] for y,x in offs]); zz=(f-M)/sd
    else: zz=F.conv2d(f-M,W[:,:,None,None])/S_[:,None]
    if a.clip: return zz.clamp(-a.clip,a.clip), zz.square().mean(1,keepdim=True).log()
    return zz, zz.square().mean(1,keepdim=True).log()
OFF=None
if a.skip:
    SK=torch.nn.Conv2d(2,2,1)
    with torch.no_grad(): SK.weight.copy_(torch.tensor([[-1.,-1.],[1.,1.]])[:,:,None,None]); SK.bias.copy_(torch.tensor([3.,-3.]))
    torch.nn.init.zeros_(d.detection.out.weight); torch.nn.init.zeros_(d.detection.out.bias)
if a.stat==3:
    import os
    @torch.no_grad()
    def sds():
        X=z["fit"][::2]; A={"low":0,"high":0}
        for i in range(0,len(X),8):
            im=(torch.from_numpy(X[i:i+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last); q=m.encode(im)
            A["low"]=A["low"]+(q.quantized_low.features-ST["low"][0]).square().sum(0); A["high"]=A["high"]+(q.quantized_high.features-ST["high"][0]).square().sum(0)
        return {k:(v/len(X)+.01*(v/len(X)).mean()).sqrt() for k,v in A.items()}
    SD=sds()
def batch(n):
    global OFF
    ix=torch.randint(len(fit),(n,),generator=g); im=fit[ix]
    if a.crop<256:
        o=(torch.randint(0,(256-a.crop)//8+1,(n,2),generator=g)*8).tolist(); OFF=o; im=torch.stack([t[y:y+a.crop,x:x+a.crop] for t,(y,x) in zip(im,o)])
    return (im.float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last)
def logits(low,high,pics=None):
    gen=m.decoder(m.join(low,high)) if a.pix else None
    if pics is not None: gen=gen
    unit_l,unit_h=m.low_codebook.spread(),m.high_codebook.spread()
    ev=torch.cat((F.interpolate(torch.cat((low/unit_l,0*low),1),scale_factor=2,mode="bilinear",align_corners=False),high/unit_h,0*high),1)
    if a.stat:
        zl,dl=whiten("low",low,OFF if d.training else None); zh,dh=whiten("high",high,OFF if d.training else None)
        if not a.dist: dl,dh=0*dl,0*dh
        if a.stat==2: zl,zh=0*zl,0*zh
        up=lambda t:F.interpolate(t,scale_factor=2,mode="bilinear",align_corners=False)
        ev=torch.cat((up(torch.cat((0*low if a.noq else low/unit_l,zl),1)),0*high if a.noq else high/unit_h,zh,up(dl),dh),1)
    if gen is None: gen=torch.zeros(len(low),3,low.shape[2]*8,low.shape[3]*8)
    lg=d.detect(Restricted(low,high,gen,ev),gen)
    if a.skip: lg=lg+F.interpolate(SK(torch.cat((up(dl),dh),1)),scale_factor=4,mode="bilinear",align_corners=False)
    return lg
@torch.no_grad()
def maps(x):
    o=[]
    for i in range(0,len(x),8):
        im=(torch.from_numpy(x[i:i+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last); q=m.encode(im)
        o.append(logits(q.quantized_low.features,q.quantized_high.features).softmax(1)[:,1:])
    return torch.cat(o)
def sc(mp): return {w:F.avg_pool2d(mp,w,1,w//2).amax((1,2,3)).numpy() for w in (1,5,9,21)}
def report(N,mn,mp,masks,kinds,name):
    s0,s1=sc(mn),sc(mp); lab=np.r_[np.zeros(len(mn)),np.ones(len(mp))]>0; out={}
    for k in ["all"]+sorted(set(kinds)):
        w=np.ones(len(kinds),bool) if k=="all" else kinds==k
        y=np.r_[np.zeros(len(mn)),np.ones(w.sum())]>0
        A=[round(float(image_auroc(np.r_[s0[q],s1[q][w]],y)),3) for q in s0]
        mm=np.concatenate([np.zeros((len(mn),256,256),bool),masks[w]]); ap=round(float(pixel_ap(torch.cat((mn,mp[w]))[:,0].numpy(),mm)),3)
        out[k]=(A,ap)
    print(name,a.label,N,"auroc at windows 1,5,9,21; ap"); [print("  ",k,*v) for k,v in out.items()]; sys.stdout.flush()
opt=torch.optim.AdamW(list(d.detection.parameters())+(list(SK.parameters()) if a.skip else []),lr=a.lr,weight_decay=.01); cpu=time.process_time(); step=0; fl=[]
d.train(); 
while True:
    pr=(time.process_time()-cpu)/a.secs
    if pr>=1: break
    for q in opt.param_groups: q["lr"]=a.lr*min(1,(step+1)/20)*(.5*(1+math.cos(math.pi*pr)))
    im=batch(a.batch); mask=draw_masks(len(im),im.shape[2:],g,tuple(a.shapes.split(",")),a.normal)
    with torch.no_grad():
        if a.multi:
            x=im; mask=torch.zeros_like(mask); keep=(torch.rand(len(im),1,1,1,generator=g)>a.normal).float()
            for k in range(a.multi):
                mk=draw_masks(len(im),im.shape[2:],g,tuple(a.shapes.split(",")) if k==0 else ("blobs","strokes"),.3)*keep; x=paint(x,mk,g,cfg.simulation.fills); mask=torch.maximum(mask,mk)
            q=m.encode(x.contiguous(memory_format=torch.channels_last)); low,high=q.quantized_low.features,q.quantized_high.features; an=S.AnomalousLatents(low,high,mask)
        else: an=simulator(im,m.encode(im),mask,g); low,high=an.low,an.high
        target=an.mask if a.mask=="cells" else mask
    p=logits(low,high).softmax(1).float()
    if a.loss=="focal": loss=focal_loss(p,target)
    elif a.loss=="focal_norm":  # each anomaly's pixels weigh as their square root
        t=target; pt=torch.where(t>0,p[:,1:],p[:,:1]).clamp(1e-5); fo=-(1-pt)**2*pt.log(); n=t.sum((1,2,3),keepdim=True).clamp(min=1); w=torch.where(t>0,(2000/n).clamp(1,20).sqrt(),torch.ones_like(t)); loss=(fo*w).mean()
    opt.zero_grad(); loss.backward(); opt.step(); step+=1; fl.append(loss.item())
d.eval()
n=len(z["val"]); mn=maps(z["val"][:a.lim]); print("focal",np.mean(fl[-80:]).round(4))
report(step,mn,maps(z["planted"][:a.lim]),z["pmask"][:a.lim],z["pkind"][:a.lim],"PLANTED"); report(step,mn,maps(sm["planted"][:a.lim]),sm["pmask"][:a.lim],sm["pkind"][:a.lim],"SMALL")
if a.test:
    t=maps(z["test"]); lab=np.array([q not in("normal","good","") for q in z["tname"]]); report(step,t[~lab],t[lab],z["tmask"][lab],z["tname"][lab],"TEST")
if a.save: torch.save(d.detection.state_dict(),a.save)
