"""Weights of the authors' released code: their key names in ours, and a detector made of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from subspect.detectors.checkpoints import load_checkpoints
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr

_RESIDUAL = (r"_residual_stack\._layers\.(\d)\._block\.1\.", r"residual.blocks.\1.spatial.")
_RESIDUAL_POINTWISE = (r"_residual_stack\._layers\.(\d)\._block\.3\.", r"residual.blocks.\1.pointwise.")
_LATENT = (
    (r"^_encoder_b\._conv_(\d)\.", r"high_encoder.conv\1."),
    (r"^_encoder_t\._conv_(\d)\.", r"low_encoder.conv\1."),
    (r"^_encoder_b\.", "high_encoder."),
    (r"^_encoder_t\.", "low_encoder."),
    (r"^_pre_vq_conv_bot\.", "high_projection."),
    (r"^_pre_vq_conv_top\.", "low_projection."),
    (r"^_vq_vae_top\.", "low_codebook."),
    (r"^_vq_vae_bot\.", "high_codebook."),
    (r"_ema_w$", "average_sum"),
    (r"_ema_cluster_size$", "average_count"),
    (r"_embedding\.weight$", "codes"),
    (r"^upsample_t\.", "low_upsampler."),
    (r"^_decoder_b\._conv_1\.", "decoder.conv."),
    (r"^_decoder_b\._conv_trans_(\d)\.", r"decoder.up\1."),
    (r"^_decoder_b\.", "decoder."),
    _RESIDUAL,
    _RESIDUAL_POINTWISE,
)
_SUBSPACE = (
    (r"^unet\.encoder\.block(\d)\.", r"encoder\1."),
    (r"^unet\.decoder\.up2\.", "up2."),
    (r"^unet\.decoder\.up3\.", "up1."),
    (r"^unet\.decoder\.db2\.", "decoder2."),
    (r"^unet\.decoder\.db3\.", "decoder1."),
    (r"^unet\.decoder\.fin_out\.0\.", "out."),
)
_OBJECT = (
    (r"^block(\d)\.", r"encoder\1."),
    (r"^pre_vq_conv\.", "projection."),
    (r"^upblock(\d)\.", r"up\1."),
    (r"^_conv_trans_1\.", "up3."),
    (r"^_conv_trans_2\.", "up4."),
    (r"^_conv_1\.", "conv."),
    _RESIDUAL,
    _RESIDUAL_POINTWISE,
)
_UNET = (
    (r"^unet\.encoder\.block(\d)\.", r"encoder\1."),
    (r"^unet\.decoder\.up1\.", "up3."),
    (r"^unet\.decoder\.up2\.", "up2."),
    (r"^unet\.decoder\.up3\.", "up1."),
    (r"^unet\.decoder\.db1\.", "decoder3."),
    (r"^unet\.decoder\.db2\.", "decoder2."),
    (r"^unet\.decoder\.db3\.", "decoder1."),
    (r"^unet\.decoder\.fin_out\.0\.", "out."),
)

_RENAMES = {
    "latent_model": _LATENT,
    "low_subspace": _SUBSPACE,
    "high_subspace": _SUBSPACE,
    "object_decoder": _OBJECT,
    "detection": _UNET,
    "upsampling": _UNET,
}
# The reference's Sequentials hold conv, norm, ReLU twice, as ours, so that 0 and 3 are the convolutions.


MODULES = tuple(_RENAMES)
"""The modules of ``Dsr`` that have a checkpoint of their own."""


def import_reference(checkpoints: Mapping[str, Path], image_size: tuple[int, int] = (256, 256)) -> Dsr:
    """A detector with the weights of the authors' released code.

    Args:
        checkpoints: For each module of ``Dsr`` (``latent_model``, ``low_subspace``, ``high_subspace``,
            ``object_decoder``, ``detection``, ``upsampling``) the file that holds its state dict.
        image_size: Height and width the detector resizes pictures to.

    Raises:
        ValueError: A checkpoint does not hold the module it is given for, or one is missing.
    """
    detector = Dsr(replace(PRESETS["paper"], image_size=image_size))
    load_checkpoints(detector, checkpoints, _RENAMES)
    detector.latent_source = {"imported_from": {name: path.name for name, path in checkpoints.items()}}
    return detector.eval()
