# ruff: noqa
# mypy: ignore-errors
"""The composed asset of the prototype in the order of the shipped code."""
import sys, torch
from safetensors import safe_open
from safetensors.torch import load_file
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.perceptual_model import make_latent_model
from subspect.detectors.dsr.latent_weights import save_latent_model
from pathlib import Path
o=load_file('composed/dsr_latent_fast.safetensors')
m=make_latent_model(PRESETS['fast'].latent); s=m.state_dict()
order=[4,5,6,7,0,1,2,3,8,9,10,11]
for k,v in s.items():
    if k.startswith('early_pixels'): q=k.replace('early_pixels','pixels')
    elif k.startswith('pixels'): q=k.replace('pixels','strokes')
    elif k.startswith('high_codebook.parts.'):
        _,_,g,rest=k.split('.',3); q=f'high_codebook.parts.{order[int(g)]}.{rest}'
    else: q=k
    if q.endswith(('average_sum','average_count')): continue
    w=o[q].float()
    if k=='high_projection.weight':
        assert not w[:,64:128].any(); w=torch.cat((w[:,:64],w[:,128:]),1)
    assert w.shape==v.shape,(k,w.shape,v.shape)
    s[k]=w.to(v.dtype)
m.load_state_dict(s)
report=eval(Path(sys.argv[1]).read_text()) if len(sys.argv)>1 else {"run":{},"note":"composed"}
out=Path('ordered/dsr_latent_fast.safetensors'); out.parent.mkdir(exist_ok=True)
out.unlink(missing_ok=True); Path(str(out)+'.sha256').unlink(missing_ok=True)
print(save_latent_model(m,out,report))
