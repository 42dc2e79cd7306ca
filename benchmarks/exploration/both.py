# ruff: noqa
# mypy: ignore-errors
"""both.py OLD NEW OUT STEPS PICTURES…: codes of OLD (a latent model of fast), beside them the trained channels of NEW, which
only draw; trains what draws."""
import sys, time
from pathlib import Path
import torch, torch.nn as nn, torch.nn.functional as F
torch.set_num_threads(1)
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.latent_weights import load_latent_model
import subspect.detectors.dsr.pretraining as P
from subspect.datasets.crops import *
old_path, new_path, out, steps, *folders = sys.argv[1:]; steps = int(steps)
c = PRESETS["fast"].latent
old, new = (load_latent_model(p, c)[0].eval() for p in (old_path, new_path))
for m in (old, new): m.requires_grad_(False)
paths = P.find_pictures(tuple(folders)); trained, judged = P.split_held_out(paths, 0.05, 0)
decoder, low_p, high_p = new.decoder, new.low_projection, new.high_projection
extra = nn.Conv2d(64, 64, 1); extra.weight.data.copy_(high_p.weight.data[:, 64:]); extra.bias.data.zero_()
high_p.weight.data[:, 64:] = 0  # the old channels draw nothing yet
for m in (decoder, low_p, high_p, extra): m.requires_grad_(True).to(memory_format=torch.channels_last)
def draw(x):
    with torch.no_grad():
        l = old.encode(x)
        p = new.pixels(x); q = new.high_codebook(torch.cat((l.high[:, :64], p), 1)).features[:, 64:]
    joined = F.interpolate(low_p(l.quantized_low.features), scale_factor=2, mode="bilinear", align_corners=False) + high_p(l.quantized_high.features) + extra(q)
    return decoder(joined)
@torch.no_grad()
def psnr():
    e = []
    for path in judged:
        x = P._centre(P.read_byte_image(path), 256)[None].float() / 255
        e.append(float(F.mse_loss(draw(x).float().clamp(0, 1), x)))
    return float(-10 * torch.tensor(e).log10().mean())
print("before", psnr(), flush=True)
params = [p for m in (decoder, low_p, high_p, extra) for p in m.parameters()]
opt = torch.optim.Adam(params, lr=5e-4, fused=True); sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1, (s+1)/100) * 0.5 * (1 + __import__("math").cos(3.14159 * s / steps)))
stage = P.LatentStage(old, trained, P.PRETRAINING["fast"], 0, trained_before=True)
from subspect.datasets.crops import Crops
sampler = P.NumberSampler(16, steps, 0, 0, 1); loader = P.crop_loader(stage.crops, sampler, torch.device("cpu"))
t = time.time(); mean = 0
for s, x in enumerate(loader):
    if x.dtype == torch.uint8: x = x.float() / 255
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16): y = draw(x)
    loss = 16 * F.mse_loss(y.float(), x); opt.zero_grad(); loss.backward(); opt.step(); sched.step()
    mean = 0.98 * mean + 0.02 * loss.item() / 16
    if s % 250 == 249: print(s + 1, mean, f"{time.time()-t:.0f} s", flush=True)
    if s % 1000 == 999: print("PSNR", psnr(), flush=True)
torch.save({"decoder": decoder.state_dict(), "low": low_p.state_dict(), "high": high_p.state_dict(), "extra": extra.state_dict()}, out)
