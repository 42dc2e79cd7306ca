"""Budgets: what of a run's configuration is not the paper's, in words."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from subspect.detectors.config import DetectorConfig, StageConfig
from subspect.detectors.registry import find_method, find_preset

PAPER = "paper"
_NAMED = 3
"""Other settings that are named; a configuration that shares little with a preset differs in dozens."""


def budget(method: str, config: DetectorConfig, preset: str = "", *, variant: bool = False) -> str:
    """What of a configuration is not the paper's; empty if all is.

    Args:
        method: Name in the registry.
        config: What was trained.
        preset: What it started from; if that is not recorded, the preset that it differs from least.
        variant: Whether it is an ablation, whose name says what it changes beside its stages.
    """
    presets = find_method(method).presets
    candidates = [preset] if preset in presets else sorted(presets, key=lambda name: name != PAPER)
    base = min(candidates, key=lambda name: len(_others(config, presets[name])))
    parts = [] if base == PAPER else [f"preset {base}"]
    parts += _size_and_steps(config, find_preset(method, PAPER))
    parts += _in_words(config, presets[base], variant)
    return f"{method}: {', '.join(parts)}" if parts else ""


def _size_and_steps(config: DetectorConfig, paper: DetectorConfig) -> list[str]:
    stages = config.trained_stages()
    steps = sum(stage.steps for stage in stages.values())
    paper_steps = sum(stage.steps for name, stage in paper.trained_stages().items() if name in stages)
    parts = []
    if steps != paper_steps:
        parts.append(f"{steps:,} of {paper_steps:,} steps")
    if config.tiling is not None:
        parts.append(str(config.tiling))
    if config.image_size != paper.image_size:
        parts.append("images of {}x{} instead of {}x{}".format(*config.image_size, *paper.image_size))
    return parts


def _in_words(config: DetectorConfig, base: DetectorConfig, variant: bool) -> list[str]:
    """Batch sizes with their values, other settings by their names."""
    differing = _others(config, base)
    sizes = [
        f"batch size {ours} instead of {theirs}"
        for name, (ours, theirs) in differing.items()
        if name.endswith("batch_size")
    ]
    names = [name for name in differing if not name.endswith("batch_size")]
    if variant:
        names = [name for name in names if isinstance(getattr(config, name.partition(".")[0]), StageConfig)]
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return list(dict.fromkeys(sizes)) + ([f"other settings ({shown})"] if names else [])


def _others(config: DetectorConfig, base: DetectorConfig) -> dict[str, tuple[Any, Any]]:
    """The fields, beside steps, size and tiling, in which a configuration is not a preset, with both values."""
    stages: dict[str, Any] = {
        name: getattr(base, name).scaled_to(stage.steps) for name, stage in config.trained_stages().items()
    }
    found = _differing(config, replace(base, **stages))
    return {name: values for name, values in found.items() if name not in ("image_size", "tiling")}


def _differing(ours: Any, theirs: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields of two dataclasses that differ, with both values; dotted for nested ones."""
    found: dict[str, tuple[Any, Any]] = {}
    for one in fields(ours):
        first, second = getattr(ours, one.name), getattr(theirs, one.name)
        if first != second and is_dataclass(first) and type(first) is type(second):
            found |= _differing(first, second, f"{prefix}{one.name}.")
        elif first != second:
            found[prefix + one.name] = first, second
    return found
