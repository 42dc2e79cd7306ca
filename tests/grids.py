"""Grids of tiny trainings."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tiny import DSR, write_data_set, write_latent_model


def flat(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested values as ``FIELD=VALUE``."""
    settings = []
    for name, value in values.items():
        if isinstance(value, dict):
            settings += flat(value, f"{prefix}{name}.")
        else:
            settings.append(f"{prefix}{name}={value if isinstance(value, str) else json.dumps(value)}")
    return settings


def tiny_grid(folder: Path, **changes: Any) -> dict[str, Any]:
    """DSR, whole and without refinement, on a data set of twelve pictures."""
    if not (folder / "data").exists():
        write_data_set(folder / "data", normal=14, defective=6)
        write_latent_model(folder / "latent.safetensors")
    grid = {
        "datasets": {"squares": {"root": str(folder / "data"), "layout": "folder"}},
        "methods": {
            "dsr": {
                "weights": str(folder / "latent.safetensors"),
                "settings": flat(asdict(DSR)),
                "variants": {"full": [], "no upsampling": ["refine=false"]},
            }
        },
        "seeds": [0, 1],
    }
    return {**grid, **changes}


def write_grid(folder: Path, name: str = "grid.yaml", **changes: Any) -> Path:
    """The same as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(tiny_grid(folder, **changes), sort_keys=False))
    return path
