"""The machine, and the virtual environment that anomalib runs in."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import venv
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PEER = "anomalib>=2.7,<3"
_VERSIONS = (
    "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in ('anomalib', 'torch')}))"
)


def make_environment(folder: Path) -> Path:
    """The Python of an environment with anomalib and the PyTorch and ONNX of here.

    It is made if it is not there, and anew if what is wanted in it has changed.
    """
    python, ready = folder / "bin/python", folder / ".ready"
    wanted = [*(f"{name}=={version(name)}" for name in ("torch", "torchvision", "onnx", "onnxscript")), PEER]
    if not ready.exists() or ready.read_text(encoding="utf-8").split() != wanted:
        print(f"making {folder}, some gigabytes", flush=True)
        venv.create(folder, with_pip=True, clear=ready.exists())  # nothing is cleared that was not made here
        ready.unlink(missing_ok=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        ready.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    return python


def machine(peer_python: Path) -> dict[str, Any]:
    """What is measured on, values JSON can hold."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    peer = subprocess.run([peer_python, "-c", _VERSIONS], check=True, capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor,
        "cores": cores(),
        "of": os.cpu_count(),
        "python": platform.python_version(),
        "ours": {name: version(name) for name in ("subspect", "torch", "openvino", "onnxruntime")},
        "peer": peer.stdout.strip(),
        "load": os.getloadavg()[0],
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what two machines differ in, apart from date and load."""
    return [name for name in other if name not in ("date", "load") and one.get(name) != other[name]]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def worker_environment() -> dict[str, str]:
    """Environment variables of a worker: as many threads as cores."""
    source = Path(__file__).parents[2] / "src"
    path = os.pathsep.join((str(source), os.environ.get("PYTHONPATH", "")))
    return os.environ | {"OMP_NUM_THREADS": str(cores()), "PYTHONPATH": path, "KINETO_LOG_LEVEL": "6"}


def command(worker: str, peer_python: Path) -> list[str]:
    """The command that starts a worker, before its arguments."""
    python = str(peer_python) if worker == "peer" else sys.executable
    return [python, str(Path(__file__).parent / f"{worker}.py")]
