"""Weights of the authors' released code: their key names in ours, and a detector made of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from subspect.detectors.checkpoints import Renames, load_checkpoints
from subspect.detectors.draem.config import PRESETS
from subspect.detectors.draem.model import Draem

# The reference numbers its decoders from the lowest resolution on, ours have the number of their level. Its
# Sequentials hold conv, norm, ReLU (behind the upsampling, where there is one), as ours.
_RENAMES: dict[str, Renames] = {
    "reconstructive": (
        (r"^encoder\.block(\d)\.", r"encoder\1."),
        *((rf"^decoder\.up{5 - level}\.", f"up{level}.") for level in (4, 3, 2, 1)),
        *((rf"^decoder\.db{5 - level}\.", f"decoder{level}.") for level in (4, 3, 2, 1)),
        (r"^decoder\.fin_out\.0\.", "out."),
    ),
    "discriminative": (
        (r"^encoder_segment\.block(\d)\.", r"encoder\1."),
        (r"^decoder_segment\.up_b\.", "up5."),
        (r"^decoder_segment\.db_b\.", "decoder5."),
        *((rf"^decoder_segment\.up{5 - level}\.", f"up{level}.") for level in (4, 3, 2, 1)),
        *((rf"^decoder_segment\.db{5 - level}\.", f"decoder{level}.") for level in (4, 3, 2, 1)),
        (r"^decoder_segment\.fin_out\.0\.", "out."),
    ),
}

MODULES = tuple(_RENAMES)
"""The modules of ``Draem``, each with a checkpoint of its own."""


def import_reference(checkpoints: Mapping[str, Path], image_size: tuple[int, int] = (256, 256)) -> Draem:
    """A detector with the weights of the authors' released code.

    Args:
        checkpoints: The files with the state dicts of ``reconstructive`` (the reference's ``NAME.pckl``) and
            ``discriminative`` (``NAME_seg.pckl``).
        image_size: Height and width the detector resizes pictures to.

    Raises:
        ValueError: A checkpoint does not hold the module it is given for, or one is missing.
    """
    detector = Draem(replace(PRESETS["paper"], image_size=image_size))
    load_checkpoints(detector, checkpoints, _RENAMES)
    detector.origin = {"imported_from": {name: path.name for name, path in checkpoints.items()}}
    return detector.eval()
