# ruff: noqa
# mypy: ignore-errors
"""upsampling.py DETECTOR ROOT CALIBRATION VARIANT...: stage 3 of `fast` alone, trained anew on a trained detector; planted defects judge.

VARIANT: WHERE-WITH-STEPS, e.g. crops-smudge-191, whole-paint-400. CALIBRATION: a file with one held-out normal image a line, every other of which
judges. Printed: pixel AP of M, of M_r as the detector has it, and of M_r of every variant."""
import copy, hashlib, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from sklearn.metrics import average_precision_score
torch.set_num_threads(1)
from subspect.detectors.dsr.model import SIZE_MULTIPLE
from subspect.detectors.dsr.stages import UpsamplingStage
from subspect.detectors.initialisation import zero_start
from subspect.detectors.dsr.light_modules import LightUNet
from subspect.datasets.tiles import load_training_images
from subspect.images import read_image
from subspect.losses import focal_loss
from subspect.probe.families import make_families
from subspect.runs.data import DataOptions
from subspect.simulation.overlay import paint, smudge
from subspect.sizes import resize
from subspect.storage import find_detector, load_detector
from subspect.training.fitting import fit
from subspect.training.options import FitOptions
import tempfile
detector_path, root, calibration, *variants = sys.argv[1:]
detector = load_detector(find_detector(Path(detector_path))).eval()
table = DataOptions(root, 'magnetic_tile').read()
images = load_training_images(table.select(split='train').samples, detector.prepare, detector.config.image_size, None)

class Painted(UpsamplingStage):
    def training_step(self, batch, _):
        images, _m, origin = self.varied(batch, 0.0)
        g = self.step_generator('smudges')
        _c, mask = self.masks(images, self.step_generator('choices', torch.device('cpu')), g)
        defective = paint(images, mask, g, self.simulation.fills)
        with torch.no_grad():
            coarse = self.detector.reconstruct_and_detect(defective, origin)
        loss = focal_loss(self.detector.refine_logits(coarse).softmax(1).float(), mask)
        self.log('focal', loss)
        return loss
    def preview(self): return {}

def trained(variant):
    where, what, steps = variant.split('-')
    torch.manual_seed(0)
    d = copy.deepcopy(detector)
    stage = replace(d.config.upsampling_stage, steps=int(steps), batch_size=8 if where == 'crops' else 2)
    d.config = replace(d.config, training_crop=128 if where == 'crops' else None, upsampling_stage=stage)
    d.upsampling = LightUNet(20, d.config.upsampling_width); zero_start(d.upsampling.out)
    s = (Painted if what == 'paint' else UpsamplingStage)(d, images, 0)
    t = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit([s], Path(folder), FitOptions(accelerator="cpu", precision="32-true", progress=False, preview_every=10**6))
    print(variant, f'{time.process_time()-t:.0f} s', flush=True)
    return d.to('cpu').eval().upsampling
modules = {'as it is': detector.upsampling, **{v: trained(v) for v in variants}}
paths = [Path(root) / 'MT_Free' / 'Imgs' / Path(l).name for l in open(calibration).read().split()][::2]
pics = [read_image(p) for p in paths]
@torch.no_grad()
def maps(ps):
    out = {'M': []} | {k: [] for k in modules}
    for i in range(0, len(ps), 6):
        x = torch.stack([detector.prepare(p) for p in ps[i:i+6]])
        c = detector.reconstruct_and_detect(detector.reorder(x))
        out['M'] += list(c.mask[:, 1].numpy())
        for k, m in modules.items():
            detector.upsampling = m
            out[k] += list(detector.refine(c)[:, 1].numpy())
    return out
normal = maps(pics)
print(f"{'':24s}", '  '.join(f'{k:>16s}' for k in normal), flush=True)
totals = {k: [] for k in normal}
for F in make_families((0.1, 0.2)):
    if not F.name.startswith(('spot', 'scratch', 'swapped')): continue
    rng = np.random.default_rng(int(hashlib.md5(F.name.encode()).hexdigest()[:8], 16))
    planted = []
    for i, p in enumerate(pics):
        o = pics[(i+7) % len(pics)]; side = min(*p.shape[:2], *o.shape[:2])
        s = np.exp(rng.uniform(np.log(max(F.least, F.smallest*side)*(F.largest/F.smallest)**.4), np.log(F.largest*side*.95)))
        planted.append(F.plant(p, o, s, rng))
    masks = [resize(torch.from_numpy(pl.mask[None].astype(np.float32) if hasattr(pl, 'mask') else (np.abs(pl.picture-p).max(2) > 0)[None].astype(np.float32)), (256, 256), antialias=False)[0].numpy() > .5 for pl, p in zip(planted, pics)]
    got = maps([pl.picture for pl in planted])
    y = np.concatenate([np.zeros(256*256*len(pics), bool)[::4]] + [m.ravel()[::4] for m in masks])
    row = {k: average_precision_score(y, np.concatenate([m.ravel()[::4] for m in normal[k] + got[k]])) * 100 for k in normal}
    for k, v in row.items(): totals[k].append(v)
    print(f'{F.name:24s}', '  '.join(f'{v:16.1f}' for v in row.values()), flush=True)
print(f"{'mean':24s}", '  '.join(f'{np.mean(v):16.1f}' for v in totals.values()))
