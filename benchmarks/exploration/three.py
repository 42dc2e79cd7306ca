# ruff: noqa
# mypy: ignore-errors
"""Stage 2 of `paper` until a deadline, then a short stage 3, saved in half precision."""
import json, logging, pickle, sys, time, os, traceback
from dataclasses import replace
from pathlib import Path
import torch
import lightning as L
from lightning.pytorch.callbacks import Callback
import subspect.training.fitting as F
import subspect.runs.run as R
import subspect.runs.data as RD
import subspect.detectors.dsr.stages as S
from subspect.datasets.table import Table
from subspect.detectors.registry import find_preset
from subspect.runs.run import RunOptions, TrainingRun, configured
from subspect.runs.data import DataOptions
from subspect.training.options import FitOptions
import torch._dynamo; torch._dynamo.config.suppress_errors = True
began = float(os.environ.get("BEGAN", time.time()))
deadline, warm, count, third = began + float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
settings = sys.argv[5:]
out = Path(os.environ["OUT"])
def say(t):
    print(f"[{time.time()-began:.0f} s] {t}", flush=True)
    with (out/"three.txt").open("a") as f: f.write(t+"\n")
samples = pickle.load(open("work/table.pkl", "rb"))
def read(self, **_): return Table(tuple(samples), "magnetic_tile", Path("work/tile"))
RD.DataOptions.read = read
R._images = lambda table, textures: {}
config = configured(find_preset("dsr", "paper"), settings=[f"detection_stage.steps=60000", f"upsampling_stage.steps={third}", *settings])
run = TrainingRun("dsr", config, DataOptions("work/tile", "magnetic_tile", None, 0), 0)
class Limit(Callback):
    def __init__(self, stage): self.stage, self.t = stage, None
    def on_train_batch_end(self, trainer, module, *a):
        g = trainer.global_step
        if g in (1, warm, warm + count):
            if torch.cuda.is_available(): torch.cuda.synchronize()
            now = time.time()
            if g == warm: self.t = now
            say(f"{self.stage.name} step {g} after {now-began:.0f} s")
            if g == warm + count and self.stage.name == "detection":
                per = (now - self.t) / count
                total = max(warm + count, min(60000, g + int((deadline - now) / per)))
                say(f"{per*1e3:.2f} ms a step, so {total} steps")
                new = replace(self.stage.detector.config, detection_stage=replace(config.detection_stage, steps=total))
                self.stage.detector.config = new; self.stage.config = new.detection_stage
                object.__setattr__(run, "config", new)
                trainer.fit_loop.epoch_loop.max_steps = total
                trainer.fit_loop.max_steps if False else None
plain = F._trainer
def trainer(stage, folder, options):
    made = plain(stage, folder, options); made.callbacks.append(Limit(stage)); return made
F._trainer = trainer
F.final_checkpoint = lambda stage, folder: folder / "checkpoints" / stage.name / "last.ckpt"
try:
    options = FitOptions(progress=False, preview_every=10**6, checkpoint_every=10**6, precision="bf16-mixed")
    detector = R.train(run, Path("work/tile_paper"), RunOptions(options))
    say(f"trained, {detector.calibration}")
    from safetensors.torch import load_file, save_file
    folder = Path("work/tile_paper")
    state = load_file(folder/"detector"/"weights.safetensors")
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items() if not k.startswith("latent_model")}, "work/half.safetensors")
    (folder/"run.json").write_text(json.dumps(run.to_dict(), indent=2))
    if torch.cuda.is_available(): say(f"peak {torch.cuda.max_memory_allocated()/2**30:.1f} GiB")
    os.system("cd /tmp && split -b 15728640 -d half.safetensors half. && tar czf $OUT/run.tgz --exclude=checkpoints --exclude=previews --exclude=weights.safetensors --exclude='*tfevents*' tile_paper && cp half.00 half.01 half.02 half.03 $OUT/ && ls -la half.* $OUT")
    say("packed")
except BaseException:
    say(traceback.format_exc()[-2500:])
