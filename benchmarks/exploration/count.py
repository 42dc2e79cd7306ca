# ruff: noqa
# mypy: ignore-errors
"""count.py: operators of a training step of fast, views aside, as a GPU would be asked for them."""
import subspect.codes as C; C.nearest_in_pieces = C.nearest_at_once
import torch, tempfile, collections, sys
from pathlib import Path
from dataclasses import replace
from torch.utils._python_dispatch import TorchDispatchMode
from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.surfaces import generate
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
torch.set_num_threads(1)
d=Path(tempfile.mkdtemp()); generate(d/'s',seed=0,surfaces=('metal',),size=256)
c=replace(PRESETS['fast'],image_size=(256,256))

det=Dsr(c)
t=read_table(d/'s','mvtec_ad',category='metal').select(split='train')
im=TrainingImages(t.samples,det.prepare,c.image_size)
st=next(s for s in det.stages(im,0) if s.name=='detection')
st.setup('fit'); 
class Tr: pass
st.log_dict=lambda *a,**k:None; st.log=lambda *a,**k:None
type(st).global_step=property(lambda s:0); type(st).global_rank=property(lambda s:0)
st.on_fit_start()
VIEW={'view','permute','transpose','t','expand','unsqueeze','squeeze','slice','select','alias','detach','split','unbind','_unsafe_view','as_strided','chunk'}
class Count(TorchDispatchMode):
    def __init__(s): super().__init__(); s.c=collections.Counter(); s.where=collections.Counter(); s.mark=''
    def __torch_dispatch__(s,f,types,args=(),kwargs=None):
        n=f.name().split('::')[1].split('.')[0]
        if n not in VIEW: s.c[n]+=1; s.where[s.mark]+=1
        return f(*args,**(kwargs or {}))
b=next(iter(st.loader(0,0,1)))
with Count() as k:
    import subspect.detectors.dsr.stages as S
    def wrap(obj,name,label):
        f=getattr(obj,name)
        def g(*a,**kw):
            old=k.mark; k.mark=label
            try: return f(*a,**kw)
            finally: k.mark=old
        setattr(obj,name,g)
    wrap(st,'varied','varied'); wrap(st,'_simulate','simulate'); wrap(det,'restrict','restrict'); wrap(det,'detect','detect'); wrap(det.latent_model,'encode','encode'); wrap(st,'masks','masks'); wrap(st.simulator,'_from_codes','from_codes')
    wrap(det,'_evidence','evidence')
    loss=st.training_step(b,0); k.mark='backward'
    loss.backward()
print(sum(k.c.values()), k.where.most_common()); print(k.c.most_common(30))
