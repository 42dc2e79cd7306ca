# ruff: noqa
# mypy: ignore-errors
import sys, torch, traceback, os, time, contextlib
sys.path.insert(0, "benchmarks")
import dsr_speed as D
import subspect.detectors.dsr.stages as S, subspect.training.compiling as C
from locked import alone
preset, variant = sys.argv[1:3]
CUDA=torch.cuda.is_available()
def graphed(f, d, n):
    if f.__name__ != "_losses": return torch.compile(f)
    g = torch.compile(f, mode="reduce-overhead")
    def run(*a):
        torch.compiler.cudagraph_mark_step_begin()
        return {k: v.clone() for k, v in g(*a).items()}
    return run
if variant == "eager": S.compiled = lambda f, d, n: f
if variant == "graphs": S.compiled = graphed
if variant == "alone8": S._PIXELS_AHEAD = 2**20
# only the timed part alone
stack = contextlib.ExitStack()
def note(self):
    D.wait_for(D.DEVICE)
    if not self.times: stack.enter_context(alone()); 
    D.wait_for(D.DEVICE); self.times.append(time.perf_counter())
    if len(self.times) > 1: stack.close()
D.Clock._note = note
from dataclasses import replace
import tempfile
from pathlib import Path
from subspect.datasets.surfaces import generate
folder=tempfile.mkdtemp(); generate(Path(folder)/"s", seed=0, surfaces=("metal",), size=256)
def say(t):
    print(t, flush=True)
    with open(os.environ["OUT"]+"/two.txt","a") as f: f.write(t+"\n")
N=int(sys.argv[3])
if variant != "judge":
    try:
        t=time.perf_counter(); s=D.step_seconds(D.PRESETS[preset], Path(folder)/"s", N, "bf16-mixed")
        say(f"{preset} {variant}: {s*1e3:.2f} ms a step, all in {time.perf_counter()-t:.0f} s" + (f", peak {torch.cuda.max_memory_allocated()/2**30:.1f} GiB" if CUDA else ""))
    except Exception: say(f"{preset} {variant} FAILED "+traceback.format_exc()[-1800:]); stack.close()
else:
    for compiled in (False, True):
        try:
            detector = D.Dsr(D.PRESETS[preset]); detector.start(None); detector = detector.eval().to(D.DEVICE).to(memory_format=torch.channels_last)
            judge = torch.compile(detector) if compiled else detector
            images = torch.rand(N,3,256,256, device=D.DEVICE).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), torch.autocast(D.DEVICE.type, torch.bfloat16):
                for _ in range(3): judge(images).score.cpu()
                with alone():
                    took=[]
                    for _ in range(9):
                        t=time.perf_counter(); judge(images).score.cpu(); took.append(time.perf_counter()-t)
            say(f"{preset} batches of {N}, compiled {compiled}: {N/sorted(took)[4]:.0f} images a second")
        except Exception: say(f"{preset} judge FAILED "+traceback.format_exc()[-1500:])
