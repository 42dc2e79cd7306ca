"""What a training starts from: pretrained weights, or a detector trained before."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from subspect.detectors.base import Detector
from subspect.detectors.pretrained import WeightsError
from subspect.storage import DESCRIPTION, find_detector, load_detector, read_description


class Origin(NamedTuple):
    """The detector that a training started from.

    Attributes:
        source: Its folder; None if there was none.
        not_to_judge: Hashes of the images it has seen, which its successor must not be judged on either.
    """

    source: str | None = None
    not_to_judge: frozenset[str] = frozenset()


def absolute_weights(weights: str) -> str:
    """The same weights wherever the command is called: a path that exists is made absolute, a hub id stays."""
    name, mark, checksum = weights.partition("#")
    return f"{Path(name).absolute()}{mark}{checksum}" if Path(name).exists() else weights


def take_weights(detector: Detector, weights: str | None) -> Origin:
    """Gives a new detector the weights that its training starts from.

    Args:
        detector: Fresh from its configuration.
        weights: The folder of a detector trained before (or of the run that made it), or whatever the method's
            own ``start`` takes; None leaves the choice to the method.

    Raises:
        ValueError: The weights cannot be had, or do not fit.
    """
    if weights is not None:
        earlier = find_detector(Path(weights))
        if (earlier / DESCRIPTION).is_file():
            return _take_over(detector, earlier, weights)
    detector.start(weights)
    return Origin()


def _take_over(detector: Detector, folder: Path, name: str) -> Origin:
    """All weights of a detector on disk, and where they come from.

    Raises:
        WeightsError: It is of another method or has other sizes.
    """
    earlier = load_detector(folder)
    if detector.method != earlier.method:
        raise WeightsError(
            f"{name} is a detector of the method {earlier.method}, but {detector.method} is to be trained;"
            f" train with --method {earlier.method}, or without it"
        )
    if _shapes(detector) != _shapes(earlier):
        raise WeightsError(
            f"{name} has other sizes than the {detector.method} detector to be trained; train with the same"
            " preset and sizes as it has, or without it"
        )
    detector.load_state_dict(earlier.state_dict())
    detector.restore_provenance(earlier.provenance())
    seen = read_description(folder)["provenance"].get("not_to_judge", ())
    return Origin(name, frozenset(seen))


def _shapes(detector: Detector) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in detector.state_dict().items()}
