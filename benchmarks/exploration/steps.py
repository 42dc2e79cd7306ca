# ruff: noqa
# mypy: ignore-errors
import sys, time, tempfile, cProfile, pstats, logging, io, traceback
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch
import torch
from torch import nn
from locked import alone
from subspect.datasets import read_table
from subspect.datasets.loading import TrainingImages
from subspect.datasets.surfaces import generate
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
from subspect.training.fitting import fit
from subspect.training.options import FitOptions
from subspect.devices import true_float32
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
preset, out = sys.argv[1], Path(sys.argv[2])
CUDA = torch.cuda.is_available(); DEV = "cuda" if CUDA else "cpu"
N = int(sys.argv[3]) if len(sys.argv) > 3 else 40
sync = torch.cuda.synchronize if CUDA else (lambda: None)
def say(t):
    print(t, flush=True)
    with (out/"steps.txt").open("a") as f: f.write(t+"\n")
def direct(norm, x):
    var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    s = (var.float()+norm.eps).rsqrt()
    return torch.addcmul((-mean.float()*s).to(x), x, s.to(x))
folder = tempfile.mkdtemp()
generate(Path(folder)/"s", seed=0, surfaces=("metal",), size=256)
c = PRESETS[preset]
c = replace(c, detection_stage=replace(c.detection_stage, steps=10**6, warmup=0))
table = read_table(Path(folder)/"s", "mvtec_ad", category="metal").select(split="train")
def made():
    torch.manual_seed(0)
    d = Dsr(c); d.start(None)
    images = TrainingImages(table.samples, d.prepare, c.image_size)
    return next(s for s in d.stages(images, 0) if s.name == "detection")
class Bare:
    """The step without Lightning."""
    def __init__(self, stage):
        self.stage = stage; stage.setup("fit"); stage.to(DEV)
        stage.log_dict = lambda *a, **k: None
        stage.on_fit_start()
        self.opt = stage.configure_optimizers()["optimizer"]
        self.batches = iter(stage.loader(0, 0, 1))
        self.before = lambda: None
    def step(self):
        self.before()
        batch = next(self.batches); batch = type(batch)(*(t.to(DEV) for t in batch)) if hasattr(batch,'_fields') else [t.to(DEV) for t in batch]
        with torch.autocast(DEV, torch.bfloat16):
            loss = self.stage.training_step(batch, 0)
        self.opt.zero_grad(); loss.backward()
        self.stage.configure_gradient_clipping(self.opt)
        self.opt.step()
        return loss.detach().clone()
def timed(name, bare, warm=6):
    try:
        t = time.perf_counter()
        for _ in range(warm): loss = bare.step()
        sync(); w = time.perf_counter()-t
        with alone():
            for _ in range(3): bare.step()
            sync(); t = time.perf_counter(); host=0.0
            for _ in range(N): loss = bare.step()
            host = time.perf_counter()-t
            sync(); took = time.perf_counter()-t
        say(f"{preset} bare {name}: {took/N*1e3:.1f} ms a step (host {host/N*1e3:.1f}), warm-up {w:.0f} s, loss {loss.item():.4f}")
    except Exception:
        say(f"{preset} bare {name} FAILED\n" + traceback.format_exc()[-1500:])
with true_float32():
    # Lightning, with cProfile
    stage = made()
    stage.config = replace(stage.config, steps=N+10)
    with alone():
        t = time.perf_counter()
        fit([stage], Path(folder)/"a", FitOptions(progress=False, preview_every=10**6, checkpoint_every=10**6, precision="bf16-mixed"))
        say(f"{preset} Lightning {N+10} steps in {time.perf_counter()-t:.2f} s, all in")
    if preset == "fast":
        stage = made(); stage.config = replace(stage.config, steps=N+10); pr = cProfile.Profile()
        with alone():
            pr.enable(); fit([stage], Path(folder)/"b", FitOptions(progress=False, preview_every=10**6, checkpoint_every=10**6, precision="bf16-mixed")); pr.disable()
        s = io.StringIO(); pstats.Stats(pr, stream=s).sort_stats("tottime").print_stats(60); pstats.Stats(pr, stream=s).sort_stats("cumulative").print_stats(110)
        (out/"cprofile_fast.txt").write_text(s.getvalue())
    bare = Bare(made()); timed("as it is", bare)
    acts = [torch.profiler.ProfilerActivity.CPU] + ([torch.profiler.ProfilerActivity.CUDA] if CUDA else [])
    with alone(), torch.profiler.profile(activities=acts) as p:
        for _ in range(4): bare.step()
        sync()
    k = p.key_averages()
    (out/f"step_{preset}.txt").write_text(str(k.table("self_cpu_time_total", row_limit=60)) + (str(k.table("self_cuda_time_total", row_limit=60)) if CUDA else ""))
    with patch.object(nn.GroupNorm, "forward", direct):
        timed("norms direct", bare)
    for mode in ((None,) if preset == "paper" else ("reduce-overhead", None)):
        torch._dynamo.reset()
        b = Bare(made()); d = b.stage.detector
        d.restrict = torch.compile(d.restrict, mode=mode); d.detect = torch.compile(d.detect, mode=mode)
        if mode and CUDA: b.before = torch.compiler.cudagraph_mark_step_begin
        timed(f"restrict and detect compiled, {mode}", b)
    if preset == "paper":
        say("peak %.1f GiB" % (torch.cuda.max_memory_allocated()/2**30)); sys.exit()
    torch._dynamo.reset()
    b = Bare(made()); d = b.stage.detector
    d.restrict = torch.compile(d.restrict); d.detect = torch.compile(d.detect); d.latent_model.encode = torch.compile(d.latent_model.encode, dynamic=preset=="fast"); d.latent_model.decoder = torch.compile(d.latent_model.decoder)
    timed("restrict, detect, encode, decoder compiled", b, warm=14)
    if CUDA: say(f"{preset} peak {torch.cuda.max_memory_allocated()/2**30:.1f} GiB")
