# ruff: noqa
# mypy: ignore-errors
"""averaged.py ROOT OUTPUT SEED STEPS [FIELD=VALUE...]: trains `fast` as `subspect train`, and keeps exponential moving averages of the weights of stage 2."""
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from subspect.detectors.dsr.stages import DetectionStage
DECAYS = (0.98, 0.995, 0.998)
root, output, seed, steps, *settings = sys.argv[1:]
def begin(self):
    began(self)
    self.shadows = {d: {n: p.detach().clone() for n, p in self.named_parameters() if p.requires_grad} for d in DECAYS}
began, DetectionStage.on_fit_start = DetectionStage.on_fit_start, begin
@torch.no_grad()
def step(self, *_):
    t = self.global_step
    for d, shadow in self.shadows.items():
        k = 1 - min(d, (1 + t) / (10 + t))
        for n, p in self.named_parameters():
            if n in shadow: shadow[n].lerp_(p.detach(), k)
def end(self):
    torch.save({d: {n.removeprefix('detector.'): v for n, v in s.items()} for d, s in self.shadows.items()}, Path(output).parent / (Path(output).name + '_averages.pt'))
DetectionStage.on_train_batch_end, DetectionStage.on_train_end = step, end
from subspect.cli import main
sys.argv = ['subspect', 'train', root, '--layout', 'magnetic_tile', '--method', 'dsr', '--preset', 'fast', '--seed', seed, '--steps', steps, '--precision', '32-true', '--output', output]
for s in settings: sys.argv += ['--set', s]
sys.exit(main())
