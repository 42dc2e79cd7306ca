"""How often the confidence bounds of `subspect probe` hold, for simulated detectors whose curves are known.

python benchmarks/probe_coverage.py [EXPERIMENTS]
"""

import sys

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from subspect.probe.hit_miss import fit_hit_miss
from subspect.probe.score_regression import fit_scores

STEEPNESS, MIDDLE = 2.5, np.log(8)
INTERCEPT, SLOPE, SCATTER, THRESHOLD = 1.0, 0.5, 0.4, 2.0


def main(experiments: int = 1000) -> None:
    """Prints the share of experiments whose a90/95 is at least the true a90; sizes from 1 to 64, seed 0."""
    true_hit_miss = np.exp(MIDDLE + np.log(9) / STEEPNESS)
    true_scores = np.exp((THRESHOLD + norm.ppf(0.9) * SCATTER - INTERCEPT) / SLOPE)
    print("| defects | hit/miss | â vs a |\n|---|---|---|")
    for count in (30, 60, 120, 240):
        rng = np.random.default_rng(0)
        sizes = np.geomspace(1, 64, count)
        held = np.zeros(2)
        for _ in range(experiments):
            found = rng.random(count) < expit(STEEPNESS * (np.log(sizes) - MIDDLE))
            scores = INTERCEPT + SLOPE * np.log(sizes) + rng.normal(0, SCATTER, count)
            bounds = fit_hit_miss(sizes, found).a90_95.value, fit_scores(sizes, scores, THRESHOLD).a90_95.value
            # No bound, being above all sizes or unknown, promises nothing that could fail.
            held += [
                bound is None or bound >= true
                for bound, true in zip(bounds, (true_hit_miss, true_scores), strict=True)
            ]
        print("| {} | {:.1%} | {:.1%} |".format(count, *held / experiments), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
