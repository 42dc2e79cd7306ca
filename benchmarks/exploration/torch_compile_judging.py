# ruff: noqa
# mypy: ignore-errors
"""torch.compile against eager mode on this CPU: judging an image, and a step's forward and backward."""
import statistics, sys, time, torch
from dataclasses import replace
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.registry import find_method
torch.manual_seed(0)
method, preset, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
module = find_method(method)
config = module.presets[preset] if hasattr(module, "presets") else None
detector = module.build(config).eval().to(memory_format=torch.channels_last)
image = torch.rand(1, 3, *detector.config.image_size).contiguous(memory_format=torch.channels_last)
with torch.inference_mode():
    plain = detector(image)
    began = time.perf_counter()
    compiled = torch.compile(detector.forward)
    fused = compiled(image)
    print("compiled in", time.perf_counter() - began, "largest difference", (plain.anomaly_map - fused.anomaly_map).abs().max().item(), "of", plain.anomaly_map.abs().max().item())
    ratios, ours = [], []
    for _ in range(repeats):
        a = time.process_time(); detector(image); b = time.process_time(); compiled(image); c = time.process_time()
        ratios.append((b - a) / (c - b)); ours.append(c - b)
    print(method, preset, "eager/compiled", statistics.median(ratios), min(ratios), max(ratios), "compiled ms", 1e3 * statistics.median(ours))
