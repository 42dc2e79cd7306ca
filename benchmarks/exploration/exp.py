# ruff: noqa
# fmt: off
"""One training of a lighter DSR with flags; judged on planted defects in held-out training normals."""
import argparse, json, time, math, sys
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from dataclasses import replace
from subspect.detectors.dsr.config import *
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.latent_model import *
from subspect.detectors.dsr.latent_weights import load_latent_model
from subspect.detectors.dsr.simulation import LatentSimulator, pool_mask
from subspect.simulation.perlin import perlin_masks, perlin_noise
from subspect.simulation.rotation import rotate
from subspect.losses import focal_loss
from subspect.metrics import image_auroc, pixel_ap
p=argparse.ArgumentParser()
A=p.add_argument
A("--name",required=True); A("--data",default="exploration/mt.npz"); A("--seed",type=int,default=0)
A("--minutes",type=float,default=6); A("--threads",type=int,default=1); A("--batch",type=int,default=8); A("--crop",type=int,default=128)
A("--norm",default="in"); A("--lr",type=float,default=1e-3); A("--mix",type=float,default=0.0, help="share of anomalous samples made in image space")
A("--styles",default="fill,gain,graft"); A("--masks",default="perlin"); A("--diff",default="none"); A("--sub",type=int,default=32); A("--det",type=int,default=40)
A("--featw",type=float,default=1.0); A("--featnorm",action="store_true"); A("--imw",type=float,default=10.); A("--latent",default=""); A("--latent_preset",default="fast")
A("--flip",action="store_true"); A("--normal",type=float,default=0.5); A("--test",action="store_true"); A("--wd",type=float,default=0.0); A("--coherent",type=float,default=0.); A("--detall",action="store_true")
A("--ema",type=float,default=0.); A("--smooth",default="1,5,9,15,21"); A("--evalsize",type=int,default=256); A("--subspace",default="on"); A("--dil",action="store_true"); A("--strength",type=float,default=.2); A("--lam",type=float,default=.05); A("--save",default="")
A("--noise",type=float,default=0.0); A("--softgt",action="store_true"); A("--subtle",action="store_true"); A("--arch",default="unet"); A("--zoom",type=float,default=1.); A("--init",default=""); A("--grey",type=float,default=0.)
a=p.parse_args(); torch.set_num_threads(a.threads); torch.manual_seed(a.seed)
def norm(c): return nn.GroupNorm(c,c,affine=False) if a.norm=="in" else nn.BatchNorm2d(c)
def dc(i,m,o): return nn.Sequential(nn.Conv2d(i,m,3,padding=1,bias=a.norm=="in"),norm(m),nn.ReLU(True),nn.Conv2d(m,o,3,padding=1,bias=a.norm=="in"),norm(o),nn.ReLU(True))
def uc(i,o): return nn.Sequential(nn.Upsample(scale_factor=2,mode="bilinear"),nn.Conv2d(i,o,3,padding=1,bias=a.norm=="in"),norm(o),nn.ReLU(True))
class Blk(nn.Module):
    def __init__(s,i,o):
        super().__init__(); s.p=nn.Conv2d(i,o,1) if i!=o else nn.Identity(); s.c1=nn.Conv2d(o,o,3,padding=1); s.n1=norm(o); s.c2=nn.Conv2d(o,o,3,padding=1); s.n2=norm(o)
    def forward(s,t):
        t=s.p(t); return t+s.c2(F.relu(s.n2(s.c1(F.relu(s.n1(t))))))
U2=lambda q:F.interpolate(q,scale_factor=2,mode="bilinear")
class RSub(nn.Module):
    def __init__(s,c,w):
        super().__init__(); s.e1=Blk(c,w); s.e2=Blk(w,2*w); s.e3=Blk(2*w,4*w); s.d2=Blk(4*w,2*w); s.d1=Blk(2*w,w); s.out=nn.Conv2d(w,c,3,padding=1); nn.init.zeros_(s.out.weight); nn.init.zeros_(s.out.bias)
    def forward(s,x):
        h=s.e3(F.max_pool2d(s.e2(F.max_pool2d(s.e1(x),2)),2)); return x+s.out(F.relu(s.d1(U2(s.d2(U2(h))))))
class RDet(nn.Module):
    def __init__(s,c,w):
        super().__init__(); s.e1=Blk(c,w); s.e2=Blk(w,2*w); s.e3=Blk(2*w,4*w); s.e4=Blk(4*w,4*w); s.d3=Blk(8*w,4*w); s.d2=Blk(6*w,2*w); s.d1=Blk(3*w,w); s.out=nn.Conv2d(w,2,3,padding=1); nn.init.zeros_(s.out.weight)
    def forward(s,x):
        a1=s.e1(x); a2=s.e2(F.max_pool2d(a1,2)); a3=s.e3(F.max_pool2d(a2,2)); a4=s.e4(F.max_pool2d(a3,2))
        h=s.d3(torch.cat((U2(a4),a3),1)); h=s.d2(torch.cat((U2(h),a2),1)); return s.out(s.d1(torch.cat((U2(h),a1),1)))
class Sub(nn.Module):
    def __init__(s,c,w):
        super().__init__(); s.e1=dc(c,w,w); s.e2=dc(w,2*w,2*w); s.e3=dc(2*w,4*w,4*w); s.u2=uc(4*w,2*w); s.d2=dc(2*w,2*w,2*w); s.u1=uc(2*w,w); s.d1=dc(w,w,w); s.out=nn.Conv2d(w,c,3,padding=1); nn.init.zeros_(s.out.weight); nn.init.zeros_(s.out.bias)
    def forward(s,x):
        h=s.e3(F.max_pool2d(s.e2(F.max_pool2d(s.e1(x),2)),2)); return x+s.out(s.d1(s.u1(s.d2(s.u2(h)))))
class Det(nn.Module):
    def __init__(s,c,w):
        super().__init__(); s.e1=dc(c,w,w); s.e2=dc(w,2*w,2*w); s.e3=dc(2*w,4*w,4*w); s.e4=dc(4*w,4*w,4*w); s.u3=uc(4*w,4*w); s.d3=dc(8*w,4*w,4*w); s.u2=uc(4*w,2*w); s.d2=dc(4*w,2*w,2*w); s.u1=uc(2*w,w); s.d1=dc(2*w,w,w); s.out=nn.Conv2d(w,2,3,padding=1)
        for m in s.modules():
            if isinstance(m,nn.Conv2d) and a.norm=="in": nn.init.normal_(m.weight,0,.02)
    def forward(s,x):
        a1=s.e1(x); a2=s.e2(F.max_pool2d(a1,2)); a3=s.e3(F.max_pool2d(a2,2)); a4=s.e4(F.max_pool2d(a3,2))
        h=s.d3(torch.cat((s.u3(a4),a3),1)); h=s.d2(torch.cat((s.u2(h),a2),1)); return s.out(s.d1(torch.cat((s.u1(h),a1),1)))
class Net(nn.Module):
    def __init__(s):
        super().__init__(); s.lm,_=load_latent_model(a.latent or None, PRESETS[a.latent_preset].latent); s.lm.requires_grad_(False)
        W=s.lm.config.width; SS=RSub if a.arch=='res' else Sub; s.ls=SS(W,a.sub); s.hs=SS(W,a.sub); s.od=GeneralDecoder(W,s.lm.config.residual_width); s.od.load_state_dict(s.lm.decoder.state_dict()); s.od.requires_grad_(True)
        n=96
        if a.diff=="feat": n+=2*W
        if a.diff=="sq": n+=2
        if a.diff=="abs": n+=48
        s.det=(RDet if a.arch=='res' else Det)(n,a.det); s.W=W
        s.vl=s.lm.low_codebook.codes.var(0).sum(); s.vh=s.lm.high_codebook.codes.var(0).sum()
    def restrict(s,ql,qh):
        m=s.lm; fl,fh=s.ls(ql),s.hs(qh)
        if a.subspace=="off": fl,fh=ql,qh
        return fl,fh,s.od(m.join(m.low_codebook(fl).features,m.high_codebook(fh).features))
    def detect(s,spec,gen,ql,qh,fl,fh):
        x=[F.pixel_unshuffle(torch.cat((spec,gen),1),4)]
        if a.diff=="feat": x+=[F.interpolate((fl-ql).detach()/s.vl.sqrt()*8,scale_factor=2),(fh-qh).detach()/s.vh.sqrt()*8]
        if a.diff=="sq": x+=[F.interpolate(((fl-ql).detach()**2).sum(1,True)/s.vl,scale_factor=2),((fh-qh).detach()**2).sum(1,True)/s.vh]
        if a.diff=="abs": x+=[F.pixel_unshuffle((spec-gen).abs()*4,4)]
        return F.interpolate(s.det(torch.cat(x,1)),scale_factor=4,mode="bilinear")
    def forward(s,im):
        L=s.lm.encode(im); ql,qh=L.quantized_low.features,L.quantized_high.features
        gen=s.lm.decoder(s.lm.join(ql,qh)); fl,fh,spec=s.restrict(ql,qh)
        return gen,spec,s.detect(spec,gen,ql,qh,fl,fh)
z=np.load(a.data); fit=torch.from_numpy(z["fit"]); 
if fit.ndim==3: fit=fit[:,None]
else: fit=fit.permute(0,3,1,2)
S=fit.shape[-1]
net=Net().to(memory_format=torch.channels_last); g=torch.Generator().manual_seed(a.seed+1)
R=lambda *s: torch.rand(*s,generator=g)
sim=LatentSimulator(net.lm,SimulationConfig(sampling="table",nearest_share=a.lam,minimum_strength=a.strength))
def blobs(n,size):
    """1-4 ellipses with Perlin-ragged edge, small."""
    H,W=size; yy,xx=torch.meshgrid(torch.arange(H)+.5,torch.arange(W)+.5,indexing="ij"); out=torch.zeros(n,H,W)
    rag=perlin_noise(2**torch.randint(3,6,(n,2),generator=g),size,g)[:,0]
    K=3; c=R(n,K,2)*torch.tensor([H,W]); r=torch.exp(math.log(2.)+R(n,K)*math.log(10.)); asp=torch.exp((R(n,K)-.5)*1.6); th=R(n,K)*math.pi; on=R(n,K)<.5; on[:,0]=True
    for k in range(K):
        dy,dx=yy-c[:,k,0,None,None],xx-c[:,k,1,None,None]; co,si=th[:,k].cos()[:,None,None],th[:,k].sin()[:,None,None]
        u=(dx*co+dy*si)/(r[:,k]*asp[:,k])[:,None,None]; v=(dy*co-dx*si)/(r[:,k]/asp[:,k])[:,None,None]
        out=torch.maximum(out,((u*u+v*v).sqrt()+.6*rag<1).float()*on[:,k,None,None])
    return out[:,None]
def strokes(n,size):
    H,W=size; yy,xx=torch.meshgrid(torch.arange(H)+.5,torch.arange(W)+.5,indexing="ij")
    c=R(n,2)*torch.tensor([H,W]); th=R(n)*2*math.pi; ln=10*torch.exp(R(n)*math.log(10.)); bend=(R(n)-.5)*1.2; w=.6+2.2*R(n)**2
    t=torch.linspace(-.5,.5,24)[None]; ang=th[:,None]+bend[:,None]*t*2+ (R(n,24)-.5)*.5
    st=ln[:,None]/24; px=(ang.cos()*st).cumsum(1); py=(ang.sin()*st).cumsum(1); px=px-px.mean(1,True)+c[:,1:]; py=py-py.mean(1,True)+c[:,:1]
    d=torch.full((n,H,W),1e9)
    for k in range(23):
        ax,ay,bx,by=[q[:,None,None] for q in (px[:,k],py[:,k],px[:,k+1],py[:,k+1])]
        vx,vy=bx-ax,by-ay; s=(((xx-ax)*vx+(yy-ay)*vy)/(vx*vx+vy*vy+1e-6)).clamp(0,1)
        d=torch.minimum(d,(xx-ax-s*vx)**2+(yy-ay-s*vy)**2)
    return (d.sqrt()<w[:,None,None]).float()[:,None]
def bands(n,size):
    """half planes and boxes, rotated: large regions."""
    H,W=size; yy,xx=torch.meshgrid((torch.arange(H)+.5)/H-.5,(torch.arange(W)+.5)/W-.5,indexing="ij")
    q=(torch.randint(0,4,(n,),generator=g)*math.pi/2+(R(n)-.5)*.5)[:,None,None]; u=xx*q.cos()+yy*q.sin(); v=yy*q.cos()-xx*q.sin()
    o=(R(n)-.5)[:,None,None]*.9; h=(.05+.4*R(n))[:,None,None]; o2=(R(n)-.5)[:,None,None]; h2=torch.where(R(n)[:,None,None]<.5,2.,.1+.4*R(n)[:,None,None])
    rag=perlin_noise(2**torch.randint(1,5,(n,2),generator=g),size,g)[:,0]*.04
    return (((u-o).abs()+rag<h)&((v-o2).abs()+rag<h2)).float()[:,None]
def masks(n,size):
    kinds={"perlin":lambda:perlin_masks(n,size,g,normal_share=0.),"blobs":lambda:blobs(n,size),"strokes":lambda:strokes(n,size),"bands":lambda:bands(n,size)}
    names=a.masks.split(","); pick=torch.randint(0,len(names),(n,),generator=g); out=torch.zeros(n,1,*size)
    pick[R(n)<a.normal]=-1
    for i,k in enumerate(names):
        q=(pick==i).nonzero()[:,0]
        if len(q): out[q]={"perlin":lambda m:perlin_masks(m,size,g,normal_share=0.),"blobs":lambda m:blobs(m,size),"strokes":lambda m:strokes(m,size),"bands":lambda m:bands(m,size)}[k](len(q))
    return out
def image_anomaly(im,m):
    """gain/offset, fill, graft under soft mask"""
    n=len(im); names=a.styles.split(","); pick=torch.randint(0,len(names),(n,),generator=g); out=im.clone(); V=lambda:R(n,1,1,1)
    for i,k in enumerate(names):
        if k=="fill":
            col=R(n,3,1,1); grey=R(n,1,1,1).expand(-1,3,-1,-1); col=torch.where(V()<.5,col,grey); o=(.05*20**V()) if a.subtle else 1-.8*V(); new=torch.lerp(im,col,o)
        elif k=="gain":
            s=torch.where(V()<.5,-1.,1.); new=(im*(1+s*(.03*20**V()))+(V()-.5)*.06) if a.subtle else (im*(1+s*(.1+.5*V()))+ (V()-.5)*.1)
        elif k=="graft":
            j=(torch.arange(n)+1+torch.randint(0,n-1,(1,),generator=g).item())%n if n>1 else torch.arange(n)
            src=im[j]; src=torch.roll(src,(int(torch.randint(0,im.shape[2],(1,),generator=g)),int(torch.randint(0,im.shape[3],(1,),generator=g))),(2,3))
            if torch.rand(1,generator=g)<.5: src=src.transpose(2,3).flip(2)
            mu=src.mean((2,3),True); src=(src-mu)*(.5+1.*V())+mu+(V()-.5)*(.1 if a.subtle else .3)
            # half the time brought to the local brightness
            tgt=im.mean((2,3),True); src=torch.where(V()<.5,src-mu+tgt,src); new=src
        elif k=="noise":
            e=torch.randint(2,6,(n,2),generator=g); nz=perlin_noise(2**e,im.shape[2:],g)+.6*perlin_noise(2**torch.randint(4,7,(n,2),generator=g).clamp(max=6),im.shape[2:],g)
            new=im+((.03*15**V()) if a.subtle else (.1+.4*V()))*nz
        out=torch.where((pick==i)[:,None,None,None],new,out)
    if (R(1)<.5): m=F.avg_pool2d(F.pad(m,(1,)*4,mode="replicate"),3,1)
    return torch.lerp(im,out.clamp(0,1),m)
def batch():
    ix=torch.randint(0,len(fit),(a.batch,),generator=g); c=a.crop; out=[]
    ys=torch.randint(0,S-c+1,(a.batch,),generator=g).tolist(); xs=torch.randint(0,S-c+1,(a.batch,),generator=g).tolist()
    if a.zoom>1:
        sd=(c*torch.exp(R(a.batch)*math.log(a.zoom))).int().clamp(max=S).tolist(); ps=R(a.batch,2).tolist(); L=[]
        for i,d,(u,v) in zip(ix.tolist(),sd,ps):
            y,x=int(u*(S-d+.999)),int(v*(S-d+.999)); q=fit[i:i+1,:,y:y+d,x:x+d].float()/255
            if a.grey and torch.rand(1,generator=g)<a.grey: q=q.mean(1,True).expand(-1,3,-1,-1)
            L.append(F.interpolate(q,(c,c),mode="bilinear",antialias=True))
        im=torch.cat(L)
    else: im=torch.stack([fit[i,:,y:y+c,x:x+c] for i,y,x in zip(ix.tolist(),ys,xs)]).float()/255
    if a.flip:
        if R(1)<.5: im=im.flip(3)
        if R(1)<.5: im=im.flip(2)
    return im.expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last)
tr=[q for q in net.parameters() if q.requires_grad]; opt=torch.optim.AdamW(tr,lr=a.lr,weight_decay=a.wd)
def planted_eval(final=False):
    net.eval(); out={}
    val=z["val"]; pl=z["planted"]; pm=z["pmask"]; pk=z["pkind"]
    if not final: val,pl,pm,pk=val[:40],pl[:40],pm[:40],pk[:40]
    res=run_maps(np.concatenate([val,pl])); n=len(val); maps=res["map"]; sm=res["score"]; lab=np.r_[np.zeros(n),np.ones(n)]>0
    out["auroc"]={k:round(float(image_auroc(v,lab)),4) for k,v in sm.items()}
    mm=np.concatenate([np.zeros_like(pm),pm]); out["ap"]=round(float(pixel_ap(maps,mm)),4)
    out["kinds"]={}
    for k in np.unique(pk):
        q=np.where(pk==k)[0]; sel=np.r_[np.arange(n),n+q]; best="9"
        out["kinds"][str(k)]=(round(float(image_auroc(sm[best][sel],lab[sel])),3),round(float(pixel_ap(maps[sel],mm[sel])),3))
    # restoration: error of the specific against clean over error of the general, inside masks
    eg=((res["gen"][n:]-res["gen"][:n])**2); es=((res["spec"][n:]-res["gen"][:n])**2); 
    out["restore"]=round(float((es*pm).sum()/(eg*pm).sum()),3); out["normal_diff"]=round(float(((res["spec"][:n]-res["gen"][:n])**2).mean())*1e4,3)
    net.train(); net.lm.eval(); return out
@torch.no_grad()
def run_maps(x):
    r={"map":[], "gen":[], "spec":[]}; sc={k:[] for k in a.smooth.split(",")}
    for i in range(0,len(x),8):
        im=torch.from_numpy(x[i:i+8]).float()/255
        im=(im[:,None].expand(-1,3,-1,-1) if im.ndim==3 else im.permute(0,3,1,2)).contiguous(memory_format=torch.channels_last)
        gen,spec,lo=net(im); pr=lo.softmax(1)[:,1:]
        for k in sc: k_=int(k); sc[k].append(F.avg_pool2d(pr,k_,1,k_//2).amax((1,2,3)).numpy())
        r["map"].append(pr[:,0].numpy()); r["gen"].append(gen.mean(1).numpy()); r["spec"].append(spec.mean(1).numpy())
    r={k:np.concatenate(v) for k,v in r.items()}; r["score"]={k:np.concatenate(v) for k,v in sc.items()}; return r
if a.init: print(net.load_state_dict(torch.load(a.init),strict=False))
net.train(); net.lm.eval(); t0=time.time(); T=a.minutes*60; step=0; hist=[]; lastp=0
cpu0=time.process_time()
while True:
    el=time.process_time()-cpu0; 
    if a.threads>1: el=time.time()-t0
    pr=el/T
    if pr>=1: break
    lr=a.lr*min(1,(step+1)/30)*(.5*(1+math.cos(math.pi*pr)));  opt.param_groups[0]["lr"]=lr
    im=batch(); n=len(im); size=tuple(im.shape[2:])
    with torch.no_grad():
        L=net.lm.encode(im); m=masks(n,size); lat=R(n)>=a.mix
        an=sim(im,L,m*lat[:,None,None,None],g); ql,qh,gt=an.low,an.high,an.mask
        if not lat.all():
            mi=m*(~lat)[:,None,None,None]; q=mi.flatten(1).any(1).nonzero()[:,0]
            if len(q):
                bad=image_anomaly(im,mi)[q].contiguous(memory_format=torch.channels_last); L2=net.lm.encode(bad)
                ql,qh,gt=ql.clone(),qh.clone(),gt.clone(); ql[q]=L2.quantized_low.features; qh[q]=L2.quantized_high.features; gt[q]=mi[q]
        gen=net.lm.decoder(net.lm.join(ql,qh))
    fl,fh,spec=net.restrict(ql,qh)
    wl,wh=((1/net.vl,1/net.vh) if a.featnorm else (1./net.W,1./net.W))
    floss=a.featw*(((fl-L.quantized_low.features)**2).sum(1).mean()*wl+((fh-L.quantized_high.features)**2).sum(1).mean()*wh)
    iloss=a.imw*F.mse_loss(spec,im)
    lo=net.detect(spec if a.detall else spec.detach(),gen,ql,qh,fl,fh); foc=focal_loss(lo.softmax(1),gt)
    loss=floss+iloss+foc; opt.zero_grad(); loss.backward(); opt.step(); step+=1
    hist.append((float(floss),float(iloss),float(foc)))
    if pr-lastp>=.249:
        lastp=pr; print(a.name,step,f"{el:.0f}s",np.round(np.mean(hist[-100:],0),5).tolist(),json.dumps(planted_eval()),flush=True); cpu0+= (time.process_time()-cpu0)-el if a.threads==1 else 0; t0+= (time.time()-t0-el) if a.threads>1 else 0
res=planted_eval(True); res.update(name=a.name,steps=step,args=" ".join(sys.argv[1:]),loss=np.round(np.mean(hist[-100:],0),5).tolist())
if a.test:
    net.eval(); rm=run_maps(z["test"]); lab=z["tname"]!="normal"; lab=np.array([n not in ("normal","good","") for n in z["tname"]])
    res["test"]={"auroc":{k:round(float(image_auroc(v,lab)),4) for k,v in rm["score"].items()},"ap":round(float(pixel_ap(rm["map"],z["tmask"])),4)}
    for k in np.unique(z["tname"][lab]):
        sel=(~lab)|(z["tname"]==k); res["test"][str(k)]=(round(float(image_auroc(rm["score"]["9"][sel],lab[sel])),3),round(float(pixel_ap(rm["map"][sel],z["tmask"][sel])),3))
print("FINAL",json.dumps(res),flush=True); open("exploration/results.jsonl","a").write(json.dumps(res)+"\n")
if a.save: torch.save(net.state_dict(),a.save)
