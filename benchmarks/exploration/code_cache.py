# ruff: noqa
# fmt: off
"""Indices of codes of all sets."""
import numpy as np,torch
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
torch.set_num_threads(1)
d=Dsr(PRESETS["fast"]); d.start(None); d.eval(); m=d.latent_model
z=np.load("../exploration/mt.npz"); sm=np.load("../s/small.npz")
print({k:z[k].shape for k in z.files},{k:sm[k].shape for k in sm.files})
@torch.no_grad()
def enc(x):
    L,H=[],[]
    for i in range(0,len(x),16):
        im=(torch.from_numpy(x[i:i+16]).float()/255)[:,None].expand(-1,3,-1,-1).contiguous(memory_format=torch.channels_last)
        q=m.encode(im); L.append(q.quantized_low.indices.short()); H.append(q.quantized_high.indices.short())
    return torch.cat(L),torch.cat(H)
out={}
for k,x in (("fit",z["fit"]),("val",z["val"]),("planted",z["planted"]),("small",sm["planted"]),("test",z["test"])):
    out[k]=enc(x); print(k,[t.shape for t in out[k]],flush=True)
torch.save((out,m.low_codebook.state_dict(),m.high_codebook.state_dict()),"codes.pt")
