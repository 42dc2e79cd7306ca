# ruff: noqa
# mypy: ignore-errors
"""A training step of fast with the trained part compiled, and without (processor time per step)."""
import sys, time, tempfile, logging, torch
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, "benchmarks")
import dsr_speed
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
from subspect.datasets.surfaces import generate
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
dsr_speed.time.perf_counter = time.process_time
with tempfile.TemporaryDirectory() as folder:
    generate(Path(folder) / "surfaces", seed=0, surfaces=("metal",), size=256)
    config = replace(PRESETS["fast"], image_size=(256, 256))
    plain = Dsr.restrict, Dsr.detect
    print("eager", dsr_speed.step_seconds(config, Path(folder) / "surfaces", 20, "32-true"), flush=True)
    Dsr.restrict, Dsr.detect = torch.compile(Dsr.restrict), torch.compile(Dsr.detect)
    began = time.process_time()
    print("compiled", dsr_speed.step_seconds(config, Path(folder) / "surfaces", 20, "32-true"), time.process_time() - began, flush=True)
    Dsr.restrict, Dsr.detect = plain
    print("eager", dsr_speed.step_seconds(config, Path(folder) / "surfaces", 20, "32-true"), flush=True)
