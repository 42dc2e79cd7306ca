"""Losses that more than one method trains with, as pure functions."""

from __future__ import annotations

from torch import Tensor


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
