# ruff: noqa
# mypy: ignore-errors
"""crops_or_whole.py ROOT CALIBRATION RUN...: what the learnt correction is worth in crops, as trained, and in whole images, as used, at the same pixels.
Pixel AP and image AUROC (of crops) by the share of the correction that counts."""
import hashlib, sys
from pathlib import Path
import numpy as np, torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
torch.set_num_threads(1)
from subspect.detectors.dsr.folds import FOLDS
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.images import read_image
from subspect.probe.families import make_families
from subspect.sizes import resize
from subspect.storage import find_detector, load_detector
root, calibration, *names = sys.argv[1:]
TRUST = (0.0, 0.25, 0.5, 0.75, 1.0)
paths = [Path(root) / 'MT_Free' / 'Imgs' / Path(l).name for l in open(calibration).read().split()][::2]
pics = [read_image(p) for p in paths]
@torch.no_grad()
def maps(d, x, origin):
    l = d.latent_model.encode(x); low, high = l.quantized_low, l.quantized_high
    general = d.latent_model.decoder(d.latent_model.join(low.features, high.features))
    r = d.restrict(low, high, origin)
    features, rarity = r.evidence
    seen = torch.cat((F.pixel_unshuffle(torch.cat((r.image, general), 1), 4), features), 1)
    guess, learnt = d.detection.first_guess(rarity), d.detection.unet(torch.cat((seen, rarity), 1))
    return torch.stack([F.interpolate(guess + t * learnt, scale_factor=4, mode='bilinear').softmax(1)[:, 1] for t in TRUST], 1).half(), F.interpolate(learnt[:, 1:] - learnt[:, :1], scale_factor=4)[:, 0]
def both(d, ps, places):
    inside, whole = [], []
    for i in range(0, len(ps), 6):
        x = d.reorder(torch.stack([d.prepare(p) for p in ps[i:i+6]]))
        at = places[i:i+6]
        cut = lambda t: torch.stack([u[..., y:y+128, z:z+128] for u, (y, z) in zip(t, at)])
        xy = coordinates((256, 256), x.device).expand(len(x), -1, -1, -1)
        m, _ = maps(d, cut(x).contiguous(memory_format=torch.channels_last), Origin(cut(xy), torch.full((len(x),), FOLDS)))
        inside.append(m)
        m, _ = maps(d, x.contiguous(memory_format=torch.channels_last), None)
        whole.append(cut(m))
    return torch.cat(inside).numpy(), torch.cat(whole).numpy()
sets = []
for fam in make_families((0.1, 0.2)):
    rng = np.random.default_rng(int(hashlib.md5(fam.name.encode()).hexdigest()[:8], 16))
    planted = []
    for i, p in enumerate(pics):
        o = pics[(i+7) % len(pics)]; side = min(*p.shape[:2], *o.shape[:2])
        s = np.exp(rng.uniform(np.log(max(fam.least, fam.smallest*side)*(fam.largest/fam.smallest)**.4), np.log(fam.largest*side*.95)))
        planted.append(fam.plant(p, o, s, rng).picture)
    masks = np.stack([resize(torch.from_numpy((np.abs(q-p).max(2) > 0)[None].astype(np.float32)), (256, 256), antialias=False)[0].numpy() > .5 for q, p in zip(planted, pics)])
    places = []
    for m in masks:
        ys, xs = np.nonzero(m) if m.any() else (np.array([128]), np.array([128]))
        k = rng.integers(len(ys)); y = int(np.clip(ys[k] - rng.integers(128), 0, 128)) // 8 * 8; z = int(np.clip(xs[k] - rng.integers(128), 0, 128)) // 8 * 8
        places.append((y, z))
    sets.append((fam.name, planted, np.stack([m[y:y+128, z:z+128] for m, (y, z) in zip(masks, places)]), places))
for name in names:
    d = load_detector(find_detector(Path(name))).eval().to(memory_format=torch.channels_last)
    print(name, '  '.join(f'{t:>12}' for t in TRUST), flush=True)
    total = {'crop': [], 'whole': []}
    for family, planted, masks, places in sets:
        normal, anomalous = both(d, pics, places), both(d, planted, places)
        for kind, ns, an in zip(total, normal, anomalous):
            y = np.concatenate([np.zeros(masks.size, bool), masks.ravel()])
            sc = lambda v: F.avg_pool2d(torch.from_numpy(v.astype(np.float32)), 21, 1).amax((2, 3)).numpy()
            a, b = sc(ns), sc(an)
            row = [(100*roc_auc_score([0]*len(a)+[1]*len(b), np.r_[a[:, t], b[:, t]]), 100*average_precision_score(y, np.r_[ns[:, t].ravel(), an[:, t].ravel()])) for t in range(len(TRUST))]
            total[kind].append(row)
            print(f'{family:20s} {kind:6s}', '  '.join(f'{a:5.1f}/{p:5.1f} ' for a, p in row), flush=True)
    for kind, rows in total.items():
        print(f"{'mean':20s} {kind:6s}", '  '.join(f'{a:5.1f}/{p:5.1f} ' for a, p in np.mean(rows, 0)), flush=True)
