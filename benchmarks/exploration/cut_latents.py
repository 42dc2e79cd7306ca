# ruff: noqa
# mypy: ignore-errors
"""cut_latents.py ROOT OUTPUT SEED STEPS [FIELD=VALUE...]: trains `fast` with latents cut from encodings of whole images."""
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from subspect.detectors.dsr.folds import FOLDS
from subspect.detectors.dsr.latent_model import Latents
from subspect.detectors.dsr.normal_codes import Origin, coordinates
from subspect.detectors.dsr.quantizer import Quantized
from subspect.detectors.dsr.simulation import AnomalousLatents, _replaced
from subspect.detectors.dsr.stages import DetectionStage
from subspect.losses import focal_loss
from subspect.simulation.overlay import paint
root, output, seed, steps, *settings = sys.argv[1:]
CACHE = {}
def encoded(model, images):
    l = model.encode(images.contiguous(memory_format=torch.channels_last))
    return l.quantized_low.indices, l.quantized_high.indices
def cached(model, images):
    keys = [hash(i.numpy().tobytes()) for i in images]
    new = [n for n, k in enumerate(keys) if k not in CACHE]
    if new:
        low, high = encoded(model, images[new])
        for n, l, h in zip(new, low, high): CACHE[keys[n]] = (l.to(torch.uint8), h.to(torch.uint8))
    return torch.stack([CACHE[k][0] for k in keys]).long(), torch.stack([CACHE[k][1] for k in keys]).long()
def cut(t, at, stride, side):
    s = side // stride
    return torch.stack([u[..., y // stride:y // stride + s, x // stride:x // stride + s] for u, (y, x) in zip(t, at)])
def step(self, batch, _):
    images, _masks, folds = batch
    d, model, side = self.detector, self.detector.latent_model, self.detector.config.training_crop
    images = d.reorder(images.float())
    with torch.no_grad():
        low, high = cached(model, images)
        g = self.step_generator('crop', torch.device('cpu'))
        at = (torch.randint((images.shape[2] - side) // 8 + 1, (len(images), 2), generator=g) * 8).tolist()
        crops = cut(images, at, 1, side).contiguous(memory_format=torch.channels_last)
        places = cut(coordinates((images.shape[2], images.shape[3]), images.device).expand(len(images), -1, -1, -1), at, 1, side)
        origin = Origin(places, folds)
        low, high = cut(low, at, 8, side), cut(high, at, 4, side)
        def q(i, book): return Quantized(book.lookup(i), i)
        ql, qh = q(low, model.low_codebook), q(high, model.high_codebook)
        latents = Latents(qh.features, ql.features, qh.features, ql, qh)
        generator, drawn = self.step_generator('anomalies'), self.step_generator('choices', torch.device('cpu'))
        chosen, mask = self.masks(crops, drawn, generator)
        painted = self.simulator.choose_painted(chosen >= 0, drawn)
        in_codes = mask.index_fill(0, painted, 0)
        anomalous = self.simulator._from_codes(latents, in_codes, generator)
        if len(painted):
            defective = paint(crops, mask - in_codes, generator, self.simulation.fills)[painted]
            whole = images[painted].clone()
            for w, c, p in zip(whole, defective, painted.tolist()):
                y, x = at[p]; w[:, y:y + side, x:x + side] = c
            l, h = encoded(model, whole)
            where = [at[p] for p in painted.tolist()]
            anomalous = AnomalousLatents(_replaced(anomalous.low, painted, q(cut(l, where, 8, side), model.low_codebook)),
                _replaced(anomalous.high, painted, q(cut(h, where, 4, side), model.high_codebook)), torch.maximum(anomalous.mask, mask - in_codes))
        general = model.decoder(model.join(anomalous.low.features, anomalous.high.features))
    restricted = d.restrict(anomalous.low, anomalous.high, origin)
    losses = self._losses(crops, latents, restricted, torch.ones(len(images), dtype=torch.bool))
    restricted = restricted._replace(image=restricted.image.detach())
    losses['focal'] = focal_loss(d.detect(restricted, general).softmax(1).float(), anomalous.mask)
    self.log_dict(losses, prog_bar=True)
    return torch.stack(list(losses.values())).sum()
DetectionStage.training_step = step
from subspect.cli import main
sys.argv = ['subspect', 'train', root, '--layout', 'magnetic_tile', '--method', 'dsr', '--preset', 'fast', '--seed', seed, '--steps', steps, '--precision', '32-true', '--output', output]
for s in settings: sys.argv += ['--set', s]
sys.exit(main())
