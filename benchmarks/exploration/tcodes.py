# ruff: noqa
# mypy: ignore-errors
import torch, importlib.util, time, statistics
torch.set_num_threads(1)
def load(p,n):
    sp=importlib.util.spec_from_file_location(n,p); m=importlib.util.module_from_spec(sp); sp.loader.exec_module(m); return m
a=load('/work/main/src/subspect/codes.py','a'); b=load('/tmp/codes_new.py','b')
lo=[(torch.randn(1,32,32,32),torch.randn(256,32)) for _ in range(12)]; hi=[(torch.randn(1,16,64,64),torch.randn(256,16)) for _ in range(8)]
def run(m):
    t=time.process_time()
    for f,c in lo+hi: m.nearest_codes(f,c)
    return time.process_time()-t
r=[]
for i in range(60): r.append((run(a),run(b)))
print(statistics.median(x for x,_ in r)*1e3, statistics.median(y for _,y in r)*1e3, 'ratio', statistics.median(x/y for x,y in r))
for f,c in lo[:2]+hi[:2]: assert (a.nearest_codes(f,c)==b.nearest_codes(f,c)).all()
# product
def prod(feats, codes):  # (N,G*d,H,W), (G,K,d)
    G,K,d=codes.shape; N,_,H,W=feats.shape
    x=feats.view(N,G,d,H*W).permute(1,0,3,2).reshape(G,N*H*W,d)
    sq=codes.square().sum(2)
    out=[]
    for s in range(0,x.shape[1],PIECE):
        out.append(torch.baddbmm(sq[:,None],x[:,s:s+PIECE],codes.transpose(1,2),alpha=-2.0).min(2).indices)
    return torch.cat(out,1)
LF=torch.cat([f for f,_ in lo],1); LC=torch.stack([c for _,c in lo]); HF=torch.cat([f for f,_ in hi],1); HC=torch.stack([c for _,c in hi])
for PIECE in (32,64,128,512,4096):
    ts=[]
    for i in range(30):
        t=time.process_time(); prod(LF,LC); prod(HF,HC); ts.append(time.process_time()-t)
    print(PIECE, statistics.median(ts)*1e3)
