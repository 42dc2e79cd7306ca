# ruff: noqa
# mypy: ignore-errors
exec(open('e2.py').read().split('def q(x)')[0])
from subspect.simulation import latent as LT
import subspect.detectors.dsr.simulation as SM
def q(x): return 'q10 %.2f q50 %.2f q90 %.2f'%tuple(x.quantile(torch.tensor([.1,.5,.9])))
def trial(name,coherent,part,**kw):
    sim=LatentSimulator(m,dataclasses.replace(d.config.simulation,image_share=0.,**kw)); old=LT._uniform_ranks
    if coherent:
        LT._uniform_ranks=lambda shape,ranks,gen:(ranks.nearest+(torch.rand(shape[0],1,1,generator=gen)*(ranks.farthest-ranks.nearest)[:,None,None]).long()).expand(shape)
    ex=sim._exchange
    def one(cb,f,i,mask,gen):
        o=ex(cb,f,i,mask,gen); N,G=i.shape[:2]; n=torch.randint(1,max(2,int(G*part)+1),(N,1),generator=gen)
        keep=torch.rand(N,G,generator=gen).argsort(1).argsort(1)<n
        ixs=torch.where(keep[:,:,None,None],o.indices,i); return type(o)(cb.lookup(ixs),ixs)
    if part<1: sim._exchange=one
    gg=torch.Generator().manual_seed(0); mask=draw_masks(16,(256,256),gg,('bands','blobs','perlin'),0.)
    an=sim(ims,lat,mask,gg); a,b=z(an.low,an.high); ml=pool_mask(an.mask,8)>0
    ch=((an.low.indices!=lat.quantized_low.indices).flatten(1).any(1)).nonzero()[:,0]
    sel=torch.zeros(16,dtype=torch.bool); sel[ch]=True; ml=ml&sel[:,None,None,None]
    print('%-34s'%name,'low',q(a[ml]),'per image medians',np.round(sorted(a[i][ml[i]].median().item() for i in ch if ml[i].any()),1)); LT._uniform_ranks=old
c0=time.process_time()
with torch.no_grad():
    lat=m.encode(ims)
    trial('as it is',0,1.)
    trial('rank one a region',1,1.)
    trial('part of groups (<=1/2)',0,.5)
    trial('both',1,.5)
    trial('both, near 0, min 0',1,.5,nearest_share=0.004,minimum_strength=0.02)
    # graft of codes: another image, same place or shifted
    mask=draw_masks(16,(256,256),torch.Generator().manual_seed(0),('bands','blobs','perlin'),0.); ml=pool_mask(mask,8)>0
    for nm,sh in (('codes of another image, same place',(0,0)),('of the same image, 64 px aside',None)):
        i=lat.quantized_low.indices; src=i.roll(1,0) if sh is not None else i.roll((8,8),(2,3))
        j=torch.where(ml,src,i); a=d.low_normal(j,Origin(F.avg_pool2d(C,8),fo)).together
        print('%-34s'%nm,'low',q(a[ml]))
print('cpu',time.process_time()-c0)
