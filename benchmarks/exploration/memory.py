# ruff: noqa
# mypy: ignore-errors
"""memory.py ROOT CALIBRATION SEED: nearest neighbours in a memory of normal ResNet-18 features (PatchCore's idea), anywhere and near the same place;
planted defects judge, the test set is looked at."""
import hashlib, sys
from pathlib import Path
import numpy as np, torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
torch.set_num_threads(1)
from subspect.datasets import read_table
from subspect.detectors.backbones import Backbone
from subspect.images import read_image, read_mask
from subspect.probe.families import make_families
from subspect.sizes import resize
root, calibration, seed, weights = sys.argv[1:]
held = {Path(l).name for l in open(calibration).read().split()}
table = read_table(Path(root), 'magnetic_tile', int(seed))
train = [s for s in table if s.split in ('train', 'calibration') and not s.anomalous and s.path.name not in held]
test = [s for s in table if s.split == 'test']
odd = [s for s in table if s.split == 'train' and s.path.name in held]
print(len(train), 'train', len(held), 'held', len(test), 'test', flush=True)
net = Backbone('resnet18.tv_in1k', (1, 2, 3)); net.load_weights(weights); net.eval()
@torch.inference_mode()
def features(picture):
    x = resize(torch.from_numpy(picture).permute(2, 0, 1), (256, 256), antialias=True)[None]
    _, b, c = net(x.contiguous(memory_format=torch.channels_last))
    b, c = F.avg_pool2d(b, 3, 1, 1), F.avg_pool2d(c, 3, 1, 1)
    c = F.interpolate(c, b.shape[2:], mode='bilinear')
    return torch.cat((b, c), 1)[0]                                  # (384, 32, 32)
bank = torch.stack([features(read_image(s.path)) for s in train])   # (T, 384, 32, 32)
print('bank', bank.shape, flush=True)
flat = bank.permute(0, 2, 3, 1).reshape(-1, 384)
some = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:30_000]]
norm = some.square().sum(1)
def anywhere(f):
    q = f.flatten(1).T
    d = torch.addmm(norm, q, some.T, alpha=-2).min(1).values + q.square().sum(1)
    return d.clamp(min=0).sqrt().view(32, 32)
near_bank = bank.permute(2, 3, 0, 1).contiguous()                   # (32, 32, T, 384)
near_norm = near_bank.square().sum(3)
OFFSETS = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
def near(fs, k=3):
    q = fs.permute(2, 3, 1, 0)                                      # (32, 32, 384, B)
    best = []
    for dy, dx in OFFSETS:
        y = (torch.arange(32) + dy).clamp(0, 31); x = (torch.arange(32) + dx).clamp(0, 31)
        shifted_bank, n = (near_bank, near_norm)
        moved = torch.zeros_like(q); moved[y[:, None], x] = q
        d = n[..., None] - 2 * torch.matmul(shifted_bank, moved)     # (32, 32, T, B)
        best.append(d[y[:, None], x].topk(k, 2, largest=False).values)
    d = torch.cat(best, 2).topk(k, 2, largest=False).values.mean(2) + q.square().sum(2)
    return d.clamp(min=0).sqrt().permute(2, 0, 1)
def anywheres(fs): return torch.stack([anywhere(f) for f in fs])
ways = {'anywhere': anywheres, 'near': near}
scale = {}
def upscaled(m): return F.interpolate(m[None, None], (256, 256), mode='bilinear')[0, 0]
@torch.inference_mode()
def judged(pictures):
    out = {n: [] for n in ways}
    for i in range(0, len(pictures), 12):
        f = torch.stack([features(p) for p in pictures[i:i+12]])
        for n, w in ways.items(): out[n].append(w(f))
    return {n: torch.cat(v) for n, v in out.items()}
def finished(m, n):
    m = (m - scale[n][0]) / scale[n][1] if n in scale else m
    return m
paths = [Path(root) / 'MT_Free' / 'Imgs' / Path(l).name for l in open(calibration).read().split()]
other = judged([read_image(p) for p in paths[1::2]])                # the half that does not judge says what is usual at each place
pics = [read_image(p) for p in paths[::2]]
base = judged(pics)
blur = lambda m: F.avg_pool2d(m[:, None], 3, 1, 1)[:, 0]
variants = {}
for n in ways:
    mu, sd = blur(other[n].mean(0)[None])[0], other[n].std()
    variants[n] = (n, lambda m: blur(m))
    variants[n + ', less the usual of its place'] = (n, lambda m, mu=mu: blur(m - mu))
    variants[n + ', by the usual of its place'] = (n, lambda m, mu=mu: blur(m / mu))
def figures(normal, anomalous, masks):
    r = {}
    for v, (n, f) in variants.items():
        a, b = f(normal[n]), f(anomalous[n])
        au = roc_auc_score([0]*len(a)+[1]*len(b), np.r_[a.amax((1, 2)), b.amax((1, 2))])
        up = lambda t: F.interpolate(t[:, None], (256, 256), mode='bilinear')[:, 0, ::2, ::2].half().numpy()
        na = up(a); y = np.concatenate([np.zeros(na.size, bool), masks[:, ::2, ::2].ravel()])
        r[v] = (au*100, 100*average_precision_score(y, np.r_[na.ravel(), up(b).ravel()]))
    return r
total = []
for fam in make_families((0.1, 0.2)):
    rng = np.random.default_rng(int(hashlib.md5(fam.name.encode()).hexdigest()[:8], 16))
    planted = []
    for i, p in enumerate(pics):
        o = pics[(i+7) % len(pics)]; side = min(*p.shape[:2], *o.shape[:2])
        s = np.exp(rng.uniform(np.log(max(fam.least, fam.smallest*side)*(fam.largest/fam.smallest)**.4), np.log(fam.largest*side*.95)))
        planted.append(fam.plant(p, o, s, rng).picture)
    masks = np.stack([resize(torch.from_numpy((np.abs(q-p).max(2) > 0)[None].astype(np.float32)), (256, 256), antialias=False)[0].numpy() > .5 for q, p in zip(planted, pics)])
    r = figures(base, judged(planted), masks); total.append(list(r.values()))
    print(f'{fam.name:22s}', '  '.join(f'{a:5.1f}/{p:5.1f}' for a, p in r.values()), flush=True)
print(f"{'mean':22s}", '  '.join(f'{a:5.1f}/{p:5.1f}' for a, p in np.mean(total, 0)), flush=True)
print(list(variants), flush=True)
good = judged([read_image(s.path) for s in test if not s.anomalous])
bad = [s for s in test if s.anomalous]
b = judged([read_image(s.path) for s in bad])
m = np.stack([F.adaptive_max_pool2d(torch.from_numpy(read_mask(s.mask_paths, s.mask_level))[None].float(), (256, 256))[0].numpy() > .5 for s in bad])
kinds = np.array([s.defect for s in bad])
for k in ['all', *sorted(set(kinds))]:
    sel = np.ones(len(bad), bool) if k == 'all' else kinds == k
    r = figures(good, {n: v[torch.from_numpy(sel)] for n, v in b.items()}, m[sel])
    print(f'test {k:16s}', '  '.join(f'{a:5.1f}/{p:5.1f}' for a, p in r.values()), flush=True)
