# ruff: noqa
# mypy: ignore-errors
"""decoder_only.py OUT STEPS PICTURES…: trains on what draws in fast's latent model, its features and codes as they are."""
import sys
from pathlib import Path
import subspect.detectors.dsr.pretraining as P
from subspect.training.options import FitOptions
P.LatentStage.trained = lambda self: [self.model.low_projection, self.model.high_projection, self.model.decoder]
P.LatentStage._move_codebooks = lambda self, latents: None
P._commitment = lambda latents, model: latents.low.new_zeros(())
out, steps, *folders = sys.argv[1:]
run = P.PretrainingRun.from_preset("fast", folders=tuple(folders), start="shipped", seed=0, steps=int(steps), settings=["stage.warmup=200"])
print(P.pretrain(run, Path(out), FitOptions(precision="bf16-mixed", progress=False))["held_out"])
