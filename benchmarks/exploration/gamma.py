# ruff: noqa
# mypy: ignore-errors
"""gamma.py ROOT OUTPUT SEED STEPS GAMMA: trains `fast` with another exponent of the focal loss; 0 is cross entropy."""
import sys
import torch
torch.set_num_threads(1)
import subspect.detectors.dsr.stages as S
from subspect.losses import focal_loss
root, output, seed, steps, gamma = sys.argv[1:]
S.focal_loss = lambda p, m: focal_loss(p, m, float(gamma))
from subspect.cli import main
sys.argv = ['subspect', 'train', root, '--layout', 'magnetic_tile', '--method', 'dsr', '--preset', 'fast', '--seed', seed, '--steps', steps, '--precision', '32-true', '--output', output]
sys.exit(main())
