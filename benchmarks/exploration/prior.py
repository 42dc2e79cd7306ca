# ruff: noqa
# mypy: ignore-errors
"""prior.py ROOT CALIBRATION RUN...: planted defects in every other held-out normal image; a run's weights and their averages (RUN_averages.pt),
by the share that the learnt correction counts. Image AUROC / pixel AP of every family, and means."""
import hashlib, sys
from pathlib import Path
import numpy as np, torch
from sklearn.metrics import average_precision_score, roc_auc_score
torch.set_num_threads(1)
from subspect.detectors.scoring import image_score
from subspect.images import read_image
from subspect.probe.families import make_families
from subspect.sizes import resize
from subspect.storage import find_detector, load_detector
import torch.nn.functional as F
root, calibration, *names = sys.argv[1:]
TRUST = [(t, c) for t in (0.5, 1.0) for c in (0, 1.5, 3, 4.5)]
paths = [Path(root) / 'MT_Free' / 'Imgs' / Path(l).name for l in open(calibration).read().split()][::2]
pics = [read_image(p) for p in paths]
@torch.no_grad()
def judged(d, ps):
    scores, maps = [], []
    for i in range(0, len(ps), 6):
        x = d.reorder(torch.stack([d.prepare(p) for p in ps[i:i+6]]).contiguous(memory_format=torch.channels_last))
        l = d.latent_model.encode(x); low, high = l.quantized_low, l.quantized_high
        general = d.latent_model.decoder(d.latent_model.join(low.features, high.features))
        r = d.restrict(low, high)
        features, rarity = r.evidence
        seen = torch.cat((F.pixel_unshuffle(torch.cat((r.image, general), 1), 4), features), 1)
        guess, learnt = d.detection.first_guess(rarity), d.detection.unet(torch.cat((seen, rarity), 1))
        ms = [torch.sigmoid(F.interpolate(((guess + t * learnt)[:, 1:] - (guess + t * learnt)[:, :1]) - c, scale_factor=4, mode='bilinear')) for t, c in TRUST]
        scores.append(torch.stack([image_score(m) for m in ms], 1)); maps.append(torch.stack([m[:, 0] for m in ms], 1).half())
    return torch.cat(scores).numpy(), torch.cat(maps).numpy()
sets = []
for fam in make_families((0.1, 0.2)):
    rng = np.random.default_rng(int(hashlib.md5(fam.name.encode()).hexdigest()[:8], 16))
    planted = []
    for i, p in enumerate(pics):
        o = pics[(i+7) % len(pics)]; side = min(*p.shape[:2], *o.shape[:2])
        s = np.exp(rng.uniform(np.log(max(fam.least, fam.smallest*side)*(fam.largest/fam.smallest)**.4), np.log(fam.largest*side*.95)))
        planted.append(fam.plant(p, o, s, rng).picture)
    masks = np.stack([resize(torch.from_numpy((np.abs(q-p).max(2) > 0)[None].astype(np.float32)), (256, 256), antialias=False)[0].numpy() > .5 for q, p in zip(planted, pics)])
    sets.append((fam.name, planted, masks))
def judge(name, d, full):
    ns, nm = judged(d, pics); total = []
    for family, planted, masks in sets:
        s, m = judged(d, planted)
        y = np.concatenate([np.zeros(masks.size, bool)[::4], masks.ravel()[::4]])
        row = []
        for t in range(len(TRUST)):
            au = roc_auc_score([0]*len(ns)+[1]*len(s), np.r_[ns[:, t], s[:, t]])
            ap = average_precision_score(y, np.r_[nm[:, t].ravel()[::4], m[:, t].ravel()[::4]])
            row.append((au*100, ap*100))
        total.append(row)
        if full: print(f'{family:22s}', '  '.join(f'{a:5.1f}/{p:5.1f} ' for a, p in row), flush=True)
    print(f"{name:38s}", '  '.join(f'{a:5.1f}/{p:5.1f} ' for a, p in np.mean(total, 0)), flush=True)
print(' '*38, '  '.join(f'{str(t):>12}' for t in TRUST), flush=True)
for name in names:
    path = Path(name.rstrip('/'))
    d = load_detector(find_detector(path)).eval().to(memory_format=torch.channels_last)
    judge(path.name, d, True)
    averages = path.parent / (path.name + '_averages.pt')
    if averages.exists():
        for decay, state in torch.load(averages).items():
            missing = d.load_state_dict(state, strict=False)
            assert not missing.unexpected_keys, missing.unexpected_keys
            judge(f'{path.name} {decay}', d, False)
