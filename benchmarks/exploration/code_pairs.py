# ruff: noqa
# fmt: off
from hist_lib import *
K=("val","planted","small","test")
lo,hi=torch.load("nll1.0.pt")
i0=np.random.default_rng(0).permutation(603)
def joint(a,b,alpha):
    j=torch.bincount((a.flatten()*256+b.flatten()),minlength=65536).view(256,256).double(); n=j.sum(); p=j/n; pa,pb=p.sum(1,keepdim=True)+1e-9,p.sum(0,keepdim=True)+1e-9
    q=(j+alpha*n**0*256*pa*pb*1)/(n+alpha*256)  # alpha*256 pseudo-counts of independence
    return (q/(pa*pb)).log().float(), float((p*((p+1e-12)/(pa*pb)).log()).sum())
def tree(level,alpha):
    X=C["fit"][level].long(); g=X.shape[1]; T={};MI=np.zeros((g,g))
    for a in range(g):
        for b in range(a+1,g):
            T[a,b],MI[a,b]=joint(X[:,a],X[:,b],alpha)
    MI=MI+MI.T; used={0}; E=[]
    while len(used)<g:
        a,b=max(((a,b) for a in used for b in range(g) if b not in used),key=lambda e:MI[e]); used.add(b); E.append((a,b) if a<b else (b,a))
    print("tree",level,[(e,round(MI[e],2)) for e in E],flush=True)
    return {k:-sum(T[a,b][C[k][level][:,a].long(),C[k][level][:,b].long()] for a,b in E)[:,None] for k in K}
def spatial(level,alpha):
    out={k:torch.zeros(len(C[k][level]),1,*C[k][level].shape[2:]) for k in K}; X=C["fit"][level].long(); mi=[]
    for q in range(X.shape[1]):
        for dy,dx in ((0,1),(1,0)):
            sa=(slice(None),slice(0,X.shape[2]-dy),slice(0,X.shape[3]-dx)); sb=(slice(None),slice(dy,None),slice(dx,None))
            T,v=joint(X[:,q][sa],X[:,q][sb],alpha); mi.append(round(v,2))
            for k in K:
                Y=C[k][level][:,q].long(); s=-T[Y[sa],Y[sb]]
                out[k][:,0][sa]+=s/2; out[k][:,0][sb]+=s/2
    print("spatial",level,mi,flush=True); return out
nz=lambda d:d["val"].std()
S3=lambda t:F.avg_pool2d(t,3,1,1)
tl,sl=tree(0,50.),spatial(0,50.); th,sh=tree(1,50.),spatial(1,50.)
torch.save((tl,sl,th,sh),"pmi.pt")
for w in (.5,1.): report(f"low + {w} tree",lambda k:up(lo[k]+w*tl[k]))
for w in (.25,.5): report(f"low + {w} spatial",lambda k:up(lo[k]+w*sl[k]))
for w in (.5,1.): report(f"high + {w} tree",lambda k:up(S3(hi[k]+w*th[k])))
for w in (.25,.5): report(f"high + {w} spatial",lambda k:up(S3(hi[k]+w*sh[k])))
