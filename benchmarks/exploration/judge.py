# ruff: noqa
# mypy: ignore-errors
import sys, time, traceback
from pathlib import Path
sys.path.insert(0, "recipes/gpu")
import torch
import where
from locked import alone
preset, out, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
CUDA = torch.cuda.is_available()
def say(t):
    print(t, flush=True)
    with (out/"judge.txt").open("a") as f: f.write(t+"\n")
def rate(judge, images, n=8):
    for _ in range(3): judge(images)[0,0,0,0].item()
    with alone():
        took=[]
        for _ in range(n+1):
            s=time.perf_counter(); judge(images)[0,0,0,0].item(); took.append(time.perf_counter()-s)
    return len(images)/sorted(took[1:])[n//2]
with torch.inference_mode(), torch.autocast(where.DEVICE.type, torch.bfloat16):
    detector, image = where.made(preset)
    torch.manual_seed(1)
    images = torch.rand(batch, 3, 256, 256, device=where.DEVICE).contiguous(memory_format=torch.channels_last)
    judge = lambda x: detector(x).anomaly_map
    expected = judge(images).clone()
    ways = {"as it is": judge, "norms direct": where.with_direct_norms(judge), "compiled": torch.compile(judge), "compiled, CUDA graphs": torch.compile(judge, mode="reduce-overhead")}
    for name, way in ways.items():
        try:
            t=time.perf_counter(); r = rate(way, images); d=(way(images)-expected).abs()
            say(f"{preset}, batches of {batch}, {name}: {r:.1f} images a second, maps differ by up to {d.max().item():.4f}, mean {d.mean().item():.5f} ({time.perf_counter()-t:.0f} s)")
            if name in ("as it is", "norms direct", "compiled"):
                with alone():
                    (out/f"{preset}_{name.replace(' ','_')}.txt").write_text(where.costliest(way, images))
        except Exception:
            say(f"{preset} {name} FAILED\n"+traceback.format_exc()[-1500:])
    if CUDA: say(f"{preset} peak {torch.cuda.max_memory_allocated()/2**30:.1f} GiB")
