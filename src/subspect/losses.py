"""Losses that more than one method trains with, as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FLAT = 50.0  # log-odds, at which softmax leaves a gradient of 2e-22: nothing, for Adam as well


def focal_loss(probabilities: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of a two-class segmentation, mean over all pixels.

    ``-(1 - p)^γ · log(p)`` with p the probability given to the true class, as DSR's and DRAEM's reference
    code: the one-hot target is clamped to [1e-5, 1 - 1e-5] and 1e-5 is added to p. Both classes weigh the same
    (α = 1).

    Args:
        probabilities: ``(N, 2, H, W)``, softmax outputs: normal, anomalous.
        mask: ``(N, 1, H, W)``, 1 where anomalous, 0 elsewhere.
        gamma: Weight of hard pixels over easy ones.

    Returns:
        A scalar.
    """
    smooth = 1e-5
    anomalous = mask * (1 - 2 * smooth) + smooth
    p = anomalous * probabilities[:, 1:] + (1 - anomalous) * probabilities[:, :1] + smooth
    return -((1 - p).abs() ** gamma * p.log()).mean()


def excess_certainty(logits: Tensor, mask: Tensor) -> Tensor:
    """By how much log-odds against the truth go beyond 50, mean over all pixels.

    Softmax is flat there and the focal loss without gradient, so that a network that came there by one step too
    large would stay there for good. Neither paper nor reference has it; it is 0 in trainings that go well
    (docs/experiments.md, "Short trainings, and Adam's first steps").

    Args:
        logits: ``(N, 2, H, W)``, before softmax: normal, anomalous.
        mask: ``(N, 1, H, W)``, 1 where anomalous, 0 elsewhere.

    Returns:
        A scalar, 0 or more.
    """
    anomalous = (logits[:, 1:] - logits[:, :1]).float()
    return F.relu(torch.where(mask > 0.5, -anomalous, anomalous) - _FLAT).mean()


def ssim_loss(reconstructions: Tensor, targets: Tensor) -> Tensor:
    """1 - the mean structural similarity, as DRAEM's reference code has it.

    There a reconstruction that goes below -0.5 anywhere in the batch makes the values' range 2 instead of 1,
    which happens early in a training.

    Args:
        reconstructions: ``(N, C, H, W)``.
        targets: Of the same shape, in [0, 1].

    Returns:
        A scalar in [0, 2].
    """
    value_range = 1.0 + (reconstructions.detach().amin() < -0.5).to(reconstructions.dtype)
    return 1 - ssim_map(reconstructions, targets, value_range).mean()


def ssim_map(images: Tensor, targets: Tensor, value_range: float | Tensor = 1.0) -> Tensor:
    """Structural similarity at every pixel, in an 11x11 Gaussian window of σ = 1.5.

    As DRAEM's reference code, which RIAD's authors wrote too: zeros around the image, C1 = (0.01·range)²,
    C2 = (0.03·range)². Libraries reflect or crop at the borders instead. Computed in the images' own precision,
    also under autocast: variances are small differences.

    Args:
        images: ``(N, C, H, W)``.
        targets: Of the same shape.
        value_range: Largest less smallest value that pixels can have.

    Returns:
        ``(N, C, H, W)``, at most 1, which is reached where the two agree.
    """
    distances = torch.arange(11, device=images.device, dtype=images.dtype) - 5
    weights = torch.exp(-(distances**2) / (2 * 1.5**2))
    weights = weights / weights.sum()
    channels = images.shape[1]
    down = weights[:, None].expand(channels, 1, -1, -1)

    def local_mean(values: Tensor) -> Tensor:
        smoothed = F.conv2d(values, down, padding=(5, 0), groups=channels)
        return F.conv2d(smoothed, down.transpose(2, 3), padding=(0, 5), groups=channels)

    with torch.autocast(images.device.type, enabled=False):
        mean, target_mean = local_mean(images), local_mean(targets)
        variance = local_mean(images**2) - mean**2
        target_variance = local_mean(targets**2) - target_mean**2
        covariance = local_mean(images * targets) - mean * target_mean
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    luminance = (2 * mean * target_mean + c1) / (mean**2 + target_mean**2 + c1)
    return luminance * (2 * covariance + c2) / (variance + target_variance + c2)
