# ruff: noqa
# mypy: ignore-errors
"""unseen.py ROOT OUTPUT SEED STEPS WAY [FIELD=VALUE...]: trains `fast`; where a painted defect changes fewer than so many of a place's codes,
the focal loss does not count (WAY ignore), or it counts as normal (normal). WAY plain: as it is."""
import sys
import torch
torch.set_num_threads(1)
import torch.nn.functional as F
import subspect.detectors.dsr.stages as S
root, output, seed, steps, way, *settings = sys.argv[1:]
LEAST = 3
STATE = {}
simulate = S.DetectionStage._simulate
def _simulate(self, seen, latents, annotated):
    a = simulate(self, seen, latents, annotated)
    low = (a.low.indices != latents.quantized_low.indices).sum(1, keepdim=True).float()
    high = (a.high.indices != latents.quantized_high.indices).sum(1, keepdim=True).float()
    changed = F.interpolate(low, scale_factor=8) + F.interpolate(high, scale_factor=4)
    STATE['known'] = (a.mask == 0) | (changed >= LEAST)
    STATE.setdefault('share', []).append(float(((a.mask > 0) & ~STATE['known']).sum() / (a.mask > 0).sum().clamp(min=1)))
    if way == 'normal': a = a._replace(mask=a.mask * STATE['known'])
    return a
def focal(probabilities, mask, gamma=2.0):
    smooth = 1e-5
    an = mask * (1 - 2 * smooth) + smooth
    p = an * probabilities[:, 1:] + (1 - an) * probabilities[:, :1] + smooth
    l = -((1 - p).abs() ** gamma * p.log())
    k = STATE['known'] if way == 'ignore' else torch.ones_like(l, dtype=torch.bool)
    return (l * k).sum() / k.sum()
S.DetectionStage._simulate = _simulate
S.focal_loss = focal
from subspect.cli import main
sys.argv = ['subspect', 'train', root, '--layout', 'magnetic_tile', '--method', 'dsr', '--preset', 'fast', '--seed', seed, '--steps', steps, '--precision', '32-true', '--output', output]
for s in settings: sys.argv += ['--set', s]
r = main()
print('share of masked pixels with fewer than', LEAST, 'codes changed:', sum(STATE['share']) / len(STATE['share']))
sys.exit(r)
