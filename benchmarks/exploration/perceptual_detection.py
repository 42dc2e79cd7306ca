# ruff: noqa
# fmt: off
"""R18 features as evidence: detection alone, or with restoration in feature space."""
import sys, argparse, copy
src=open("exp.py").read(); pre=src.split("if a.init:")[0]
extra=argparse.ArgumentParser(); E=extra.add_argument
E("--secs",type=float,default=150); E("--label",default=""); E("--levels",default="1,2,3"); E("--sub_on",type=int,default=0); E("--dw",type=int,default=40); E("--dlr",type=float,default=1e-3); E("--img",type=int,default=0); E("--proj",type=int,default=0); E("--eval_every",type=float,default=150); E("--test_too",type=int,default=0); E("--sw",type=int,default=32)
E("--q",default=""); E("--fw",type=float,default=1.0); E("--save_to",default=""); E("--pos",type=int,default=0)
x,rest=extra.parse_known_args(sys.argv[1:])
sys.argv=["exp","--name","m"]+rest
for k,v in (("--masks","perlin,blobs,strokes,bands"),("--styles","fill,gain,graft,noise"),("--normal",".3"),("--arch","res"),("--mix","1")):
    if k not in sys.argv: sys.argv+=[k,v]
exec(pre)
import timm
from safetensors.torch import load_file
r18=timm.create_model("resnet18",features_only=True,out_indices=(1,2,3),pretrained=False).eval()
r18.load_state_dict(load_file("../shared/weights/resnet18_imagenet_to_layer3.safetensors"),strict=False); r18.requires_grad_(False); r18=r18.to(memory_format=torch.channels_last)
mu=torch.tensor([.485,.456,.406])[:,None,None]; sd_=torch.tensor([.229,.224,.225])[:,None,None]
from subspect.codes import nearest_codes
books=torch.load('books.pt') if x.q else None
lv=[int(q)-1 for q in x.levels.split(",")]
@torch.no_grad()
def enc(im): 
    f=r18((im-mu)/sd_); f=[f[i] for i in lv]
    if x.q: f=[F.embedding(nearest_codes(t,books[l,int(x.q)]),books[l,int(x.q)]).permute(0,3,1,2) for t,l in zip(f,lv)]
    return f
# normalise by channel statistics of training images
with torch.no_grad():
    q=[enc(fit[i:i+8].float().div(255).expand(-1,3,-1,-1)) for i in range(0,64,8)]
    st=[(torch.cat(t).mean((0,2,3))[:,None,None],torch.cat(t).std((0,2,3))[:,None,None]+1e-3) for t in zip(*q)]
nz=lambda fs:[(f-m_)/s_ for f,(m_,s_) in zip(fs,st)]
CH=[64,128,256]; ch=[CH[i] for i in lv]
def up4(f,size): return F.interpolate(f,size,mode="bilinear") if f.shape[2:]!=size else f
class M(nn.Module):
    def __init__(s):
        super().__init__(); c=sum(ch)
        if x.sub_on:
            s.subs=nn.ModuleList([RSub(k,x.sw) for k in ch])
            c=2*c if x.sub_on==2 else c
        s.det=RDet(c+(48 if x.img else 0),x.dw)
    def restrict(s,fs): return [m(f) for m,f in zip(s.subs,fs)]
    def forward(s,im,fs):
        size=fs[0].shape[2:] if lv[0]==0 else (im.shape[2]//4,im.shape[3]//4)
        R_=None
        ev=[]
        if x.sub_on:
            R_=s.restrict(fs); ev+=[up4((r-f).detach(),size) for r,f in zip(R_,fs)]
        if x.sub_on in(0,2): ev+=[up4(f,size) for f in fs]
        if x.img: ev.append(F.pixel_unshuffle(im,4))
        return F.interpolate(s.det(torch.cat(ev,1)),scale_factor=4,mode="bilinear"),R_
net2=M().to(memory_format=torch.channels_last)
opt=torch.optim.AdamW(net2.parameters(),lr=x.dlr,weight_decay=.01)
val,pl,pm,pk=z["val"][:100],z["planted"][:100],z["pmask"][:100],z["pkind"][:100]
@torch.no_grad()
def maps(xx,limit=None):
    o=[]
    for k in range(0,len(xx),8):
        im=(torch.from_numpy(xx[k:k+8]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last); o.append(net2(im,nz(enc(im)))[0].softmax(1)[:,1:])
    return torch.cat(o)
def score(m): return {w:F.avg_pool2d(m,w,1,w//2).amax((1,2,3)).numpy() for w in (5,9,21)}
def judge(test):
    net2.eval(); N=len(val); m=torch.cat((maps(val),maps(pl))); mm=np.concatenate([np.zeros_like(pm),pm]); lab=np.r_[np.zeros(N),np.ones(N)]>0; sc=score(m)
    out={"planted":{w:round(float(image_auroc(v,lab)),3) for w,v in sc.items()},"ap":round(float(pixel_ap(m[:,0].numpy(),mm)),3)}
    for k in np.unique(pk):
        s_=np.r_[np.arange(N),N+np.where(pk==k)[0]]; out[str(k)]=(round(float(image_auroc(sc[9][s_],lab[s_])),2),round(float(pixel_ap(m[s_,0].numpy(),mm[s_])),2))
    if test:
        m=maps(z["test"]); sc=score(m); lab=np.array([n not in("normal","good","") for n in z["tname"]]); out["TEST"]=({w:round(float(image_auroc(v,lab)),3) for w,v in sc.items()},round(float(pixel_ap(m[:,0].numpy(),z["tmask"])),3))
        for k in np.unique(z["tname"][lab]):
            s_=(~lab)|(z["tname"]==k); out["T_"+str(k)]=(round(float(image_auroc(sc[9][s_],lab[s_])),2),round(float(pixel_ap(m[s_,0].numpy(),z["tmask"][s_])),2))
    net2.train(); return out
net2.train(); cpu=time.process_time(); off=0; step=0; fl=[]; nxt=x.eval_every
while True:
    el=time.process_time()-cpu-off; pr=el/x.secs
    if pr>=1: break
    for q in opt.param_groups: q["lr"]=x.dlr*min(1,(step+1)/20)*(.5*(1+math.cos(math.pi*pr)))
    im=batch(); m=masks(len(im),tuple(im.shape[2:])); bad=image_anomaly(im,m).contiguous(memory_format=torch.channels_last)
    fb=nz(enc(bad)); lo,R_=net2(bad,fb); foc=focal_loss(lo.softmax(1),m); loss=foc; fv=0.
    if x.sub_on:
        fc=nz(enc(im)); feat=sum(F.mse_loss(r,f) for r,f in zip(R_,fc)); fv=float(feat); loss=loss+x.fw*feat
    opt.zero_grad(); loss.backward(); opt.step(); step+=1; fl.append((float(foc),fv))
    if el>nxt and x.secs-el>30:
        t_=time.process_time(); print(x.label,step,f"{el:.0f}s",np.mean(fl[-100:],0).round(4).tolist(),judge(False),flush=True); off+=time.process_time()-t_; nxt+=x.eval_every
print("FINAL",x.label,step,np.mean(fl[-100:],0).round(4).tolist(),judge(x.test_too),flush=True)
if x.save_to: torch.save(net2.state_dict(),x.save_to)
