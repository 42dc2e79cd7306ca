"""Times subspect against anomalib and against what the machine can do: python benchmarks/speed OUTPUT.

    python benchmarks/speed OUTPUT.json [--only TEXT …] [--environment FOLDER]
    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/speed OUTPUT.json      # one core

anomalib runs in a virtual environment of its own with the PyTorch that subspect has here, which is made
from the package registry if FOLDER is not there (git-ignored, about 6 GB; delete it when done). Each
comparison starts two fresh processes, one a side, which work in turn, ours, theirs, ours, …, so that
whatever else the machine does meets both; reported is the median of the ratios of neighbours, with the
smallest and largest. All cores that the process may use are used. With one core, times are processor time,
which other work on the machine changes little; with several they are wall-clock time. OUTPUT.json is
written anew after each comparison, and comparisons that are in it are not repeated; a file that was begun on
another machine, with other cores or other versions is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from comparisons import COMPARISONS, Comparison
from environments import differences, machine, make_environment
from report import render
from timing import Timer

from subspect.files import write_json


def main() -> None:
    """Measures what is not measured yet, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="JSON file; what is in it already is not measured again")
    parser.add_argument(
        "--only", nargs="+", default=[], help="comparisons whose group or name contains one of these"
    )
    parser.add_argument("--environment", type=Path, default=Path(__file__).parent / ".anomalib")
    parser.add_argument("--cores", type=int, help="use the first so many of those allowed (default: all)")
    given = parser.parse_args()
    given.output.touch()  # fails now rather than after the first comparison
    if given.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    chosen = [one for one in COMPARISONS if _matches(one, given.only)]
    peer_python = make_environment(given.environment)
    results = json.loads(given.output.read_text(encoding="utf-8") or "{}")
    here = machine(peer_python)
    if changed := differences(results.setdefault("machine", here), here):
        parser.error(f"{given.output} was measured with other {', '.join(changed)}: choose another file")
    done = results.setdefault("comparisons", {})
    with tempfile.TemporaryDirectory() as folder:
        timer = Timer(peer_python, Path(folder))
        peak = timer.peak()
        for comparison in chosen:
            key = f"{comparison.group}: {comparison.name}"
            if key in done:
                continue
            done[key] = timer.measure(comparison).to_dict()
            results["peak"] = max(results.get("peak", 0.0), peak)
            write_json(given.output, results)
            print(f"{key}: {done[key]}", flush=True)
    print(render(results))


def _matches(comparison: Comparison, words: list[str]) -> bool:
    text = f"{comparison.group}: {comparison.name}".lower()
    return not words or any(word.lower() in text for word in words)


if __name__ == "__main__":
    main()
