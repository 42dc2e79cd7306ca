# ruff: noqa
# mypy: ignore-errors
"""The latent model for drawing_groups.patch: the one of commit ca3923c (old), with what draws in that of 64ba6fd (new)."""
import torch, dataclasses, sys
from pathlib import Path
from safetensors.torch import load_file
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.latent_weights import save_latent_model, load_latent_model
from subspect.detectors.dsr.perceptual_model import make_latent_model
o=load_file("old.safetensors"); n=load_file("new.safetensors")
m=make_latent_model(PRESETS["fast"].latent); s=m.state_dict()
for k in s:
    if k in o and not k.startswith(("decoder","low_projection","high_projection")): s[k]=o[k].to(s[k].dtype)
    if k.startswith(("decoder","low_projection")) or k=="high_projection.bias": s[k]=n[k].to(s[k].dtype)
    if k.startswith("strokes"): s[k]=n[k.replace("strokes","pixels")].to(s[k].dtype)
    for g in range(8,12):
        if k.startswith(f"high_codebook.parts.{g}.") and k.replace(f"parts.{g}",f"parts.{g-4}") in n: s[k]=n[k.replace(f"parts.{g}",f"parts.{g-4}")].to(s[k].dtype)
w=n["high_projection.weight"].float(); s["high_projection.weight"]=torch.cat((w[:,:64],torch.zeros_like(w[:,64:]),w[:,64:]),1)
m.load_state_dict(s)
print(save_latent_model(m,Path("composed/dsr_latent_fast.safetensors"),{"run":{},"note":"composed"}))
