# ruff: noqa
# fmt: off
"""How fast does a detection net learn to segment simulated defects from quantised features? No subspace, no second decoder."""
import sys
src=open("exploration/exp.py").read()
pre=src.split("if a.init:")[0]
import argparse
extra=argparse.ArgumentParser(); E=extra.add_argument
E("--secs",type=float,default=100); E("--inp",default="img"); E("--arch",default="unet"); E("--loss",default="focal"); E("--dinit",default="small"); E("--dnorm",default="in"); E("--dlr",type=float,default=1e-3); E("--dw",type=int,default=40); E("--label",default=""); E("--opt",default="adamw"); E("--dsave",default=""); E("--dinit_from",default="")
x,rest=extra.parse_known_args(sys.argv[1:])
sys.argv=["exp","--name","m"]+rest+["--masks","perlin,blobs,strokes,bands","--styles","fill,gain,graft,noise","--normal",".3"]
exec(pre)
class PLN(nn.Module):
    def __init__(s,c):
        super().__init__(); s.n=nn.LayerNorm(c)
    def forward(s,t): return s.n(t.permute(0,2,3,1)).permute(0,3,1,2)
def nrm(c):
    if x.dnorm=="in": return nn.GroupNorm(c,c,affine=False)
    if x.dnorm=="gn": return nn.GroupNorm(8,c)
    if x.dnorm=="bn": return nn.BatchNorm2d(c)
    if x.dnorm=="none": return nn.Identity()
    if x.dnorm=="ln": return nn.GroupNorm(1,c)
    if x.dnorm=="pln": return PLN(c)
    if x.dnorm=="bnm": return nn.BatchNorm2d(c,momentum=.02)
act=lambda: nn.ReLU(True)
class Blk(nn.Module):
    """residual double conv"""
    def __init__(s,i,o):
        super().__init__(); s.p=nn.Conv2d(i,o,1) if i!=o else nn.Identity(); s.c1=nn.Conv2d(o,o,3,padding=1); s.n1=nrm(o); s.c2=nn.Conv2d(o,o,3,padding=1); s.n2=nrm(o)
    def forward(s,t):
        t=s.p(t); return t+s.c2(F.relu(s.n2(s.c1(F.relu(s.n1(t))))))
class DW(nn.Module):
    def __init__(s,i,o):
        super().__init__(); s.p=nn.Conv2d(i,o,1) if i!=o else nn.Identity(); s.d=nn.Conv2d(o,o,7,padding=3,groups=o); s.n=nrm(o); s.a=nn.Conv2d(o,3*o,1); s.b=nn.Conv2d(3*o,o,1)
    def forward(s,t):
        t=s.p(t); return t+s.b(F.relu(s.a(s.n(s.d(t)))))
def conv2(i,o):
    if x.arch in("res",): return Blk(i,o)
    if x.arch=="dw": return DW(i,o)
    return nn.Sequential(nn.Conv2d(i,o,3,padding=1),nrm(o),act(),nn.Conv2d(o,o,3,padding=1),nrm(o),act())
class D2(nn.Module):
    def __init__(s,c,w):
        super().__init__(); s.e1=conv2(c,w); s.e2=conv2(w,2*w); s.e3=conv2(2*w,4*w); s.e4=conv2(4*w,4*w); s.d3=conv2(8*w,4*w); s.d2=conv2(6*w,2*w); s.d1=conv2(3*w,w); s.out=nn.Conv2d(w,2,3,padding=1)
        if x.dinit=="small":
            for m in s.modules():
                if isinstance(m,nn.Conv2d): nn.init.normal_(m.weight,0,.02)
        nn.init.zeros_(s.out.weight)
    def forward(s,t):
        U=lambda q:F.interpolate(q,scale_factor=2,mode="bilinear")
        a1=s.e1(t); a2=s.e2(F.max_pool2d(a1,2)); a3=s.e3(F.max_pool2d(a2,2)); a4=s.e4(F.max_pool2d(a3,2))
        h=s.d3(torch.cat((U(a4),a3),1)); h=s.d2(torch.cat((U(h),a2),1)); return s.out(s.d1(torch.cat((U(h),a1),1)))
cin={"img":48,"q":128,"imgq":176,"rawimg":48,"gen":48}[x.inp]
det=D2(cin,x.dw).to(memory_format=torch.channels_last)
def inp(ql,qh):
    t=[]
    if "img" in x.inp or x.inp=="gen": t.append(F.pixel_unshuffle(net.lm.decoder(net.lm.join(ql,qh)),4))
    if x.inp in("q","imgq"): t+=[F.interpolate(ql/net.vl.sqrt()*8,scale_factor=2),qh/net.vh.sqrt()*8]
    return torch.cat(t,1)
@torch.no_grad()
def make(im):
    n=len(im); size=tuple(im.shape[2:]); L=net.lm.encode(im); m=masks(n,size); lat=R(n)>=a.mix
    an=sim(im,L,m*lat[:,None,None,None],g); mi=m*(~lat)[:,None,None,None]; ql,qh=an.low.clone(),an.high.clone(); w=lat[:,None,None,None]; q=(mi.flatten(1).any(1)).nonzero()[:,0]
    if len(q):
        bad0=image_anomaly(im,mi)
        if x.inp=="rawimg": return F.pixel_unshuffle(bad0,4),(mi>0).float()
        bad=bad0[q].contiguous(memory_format=torch.channels_last); L2=net.lm.encode(bad); ql[q]=L2.quantized_low.features; qh[q]=L2.quantized_high.features
    return inp(ql,qh),torch.where(w,an.mask,(mi>0).float())
opt={"adamw":lambda:torch.optim.AdamW(det.parameters(),lr=x.dlr,weight_decay=.01),"adam2":lambda:torch.optim.Adam(det.parameters(),lr=x.dlr,betas=(.9,.95))}[x.opt]()
fitall=fit
def lossf(lo,gt):
    lo=F.interpolate(lo,scale_factor=4,mode="bilinear")
    if x.loss=="focal": return focal_loss(lo.softmax(1),gt)
    return F.cross_entropy(lo,gt[:,0].long())
if x.dinit_from: det.load_state_dict(torch.load(x.dinit_from))
import time as T_
cpu=T_.process_time(); step=0; fl=[]
while True:
    pr=(T_.process_time()-cpu)/x.secs
    if pr>=1: break
    for q in opt.param_groups: q["lr"]=x.dlr*min(1,(step+1)/20)*(.5*(1+math.cos(math.pi*pr)))
    i,gt=make(batch()); l=lossf(det(i),gt); opt.zero_grad(); l.backward(); opt.step(); step+=1
    fl.append(float(l))
if x.dsave: torch.save(det.state_dict(),x.dsave)
a.zoom=1.
S=256
# judge: synthetic on held-out normals, planted
det.eval(); g=torch.Generator().manual_seed(99); fit=torch.from_numpy(z["val"])[:,None]; tot=[]
with torch.no_grad():
    P=[];M=[]
    for _ in range(20):
        i,gt=make(batch()); lo=F.interpolate(det(i),scale_factor=4,mode="bilinear"); tot.append(float(focal_loss(lo.softmax(1),gt))); P.append(lo.softmax(1)[:,1]); M.append(gt[:,0])
    sap=pixel_ap(torch.cat(P).numpy(),torch.cat(M).numpy()>0)
    def mp(xx):
        o=[]
        for k in range(0,len(xx),8):
            im=(torch.from_numpy(xx[k:k+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last); L=net.lm.encode(im)
            if x.inp=="rawimg": o.append(F.interpolate(det(F.pixel_unshuffle(im,4)),scale_factor=4,mode="bilinear").softmax(1)[:,1:]); continue
            o.append(F.interpolate(det(inp(L.quantized_low.features,L.quantized_high.features)),scale_factor=4,mode="bilinear").softmax(1)[:,1:])
        return torch.cat(o)
    N=100; A_=torch.cat((mp(z["val"][:N]),mp(z["planted"][:N]))); sc=F.avg_pool2d(A_,9,1,4).amax((1,2,3)).numpy(); lab=np.r_[np.zeros(N),np.ones(N)]>0; mm=np.concatenate([np.zeros_like(z["pmask"][:N]),z["pmask"][:N]])
    ks={str(k):round(float(image_auroc(sc[np.r_[np.arange(N),N+np.where(z["pkind"][:N]==k)[0]]],lab[np.r_[np.arange(N),N+np.where(z["pkind"][:N]==k)[0]]])),2) for k in np.unique(z["pkind"])}
print(f"{x.label:14s} steps {step} train {np.mean(fl[-40:]):.4f} valfocal {np.mean(tot):.4f} synthAP {sap:.3f} planted {image_auroc(sc,lab):.3f} {pixel_ap(A_[:,0].numpy(),mm):.3f} {ks}",flush=True)
if x.label.startswith("pic"):
    from PIL import Image
    ix=[0,1,2,3,4,7,8,9,13,14]; rows=[]
    for k in ix: rows.append(np.hstack([z["val"][k],(A_[k,0].numpy()*255).astype(np.uint8),z["planted"][k],(A_[N+k,0].numpy()*255).astype(np.uint8),z["pmask"][k].astype(np.uint8)*255]))
    Image.fromarray(np.vstack(rows)).resize((800,1600)).save("maps.png")
