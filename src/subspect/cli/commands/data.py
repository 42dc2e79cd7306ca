"""Commands about data: the built-in surfaces, what can be shown on them, and whether a data set can be used."""

from __future__ import annotations

from jsonargparse import Namespace

from subspect.cli.answers import EXIT_FAILED


def do_surfaces(given: Namespace) -> int:
    """Draws the built-in surfaces."""
    from subspect.datasets.surfaces import generate

    generate(given.output, seed=given.seed, surfaces=given.only, size=given.size)
    print(f"written: {given.output} (layout mvtec_ad)")
    return 0


def do_check(given: Namespace) -> int:
    """Says whether a data set can be trained on."""
    from subspect.datasets import read_table
    from subspect.datasets.checks import check_table

    report = check_table(read_table(given.root, given.layout, given.seed, given.category))
    print(report.render())
    return 0 if report.trainable else EXIT_FAILED


def do_demo(given: Namespace) -> int:
    """Shows training, judging and inspecting on built-in surfaces."""
    from subspect.demo import demo

    print(f"written: {demo(given.output, given.seed)}")
    return 0
