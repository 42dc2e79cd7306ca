"""From anomaly maps to one score an image, for methods that score alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_SMOOTHING = 21


def image_score(anomaly_map: Tensor) -> Tensor:
    """The maximum of maps ``(N, 1, H, W)`` after a 21x21 mean filter that counts the zeros around them.

    As DSR's and DRAEM's reference code.
    """
    smoothed = F.avg_pool2d(anomaly_map, _SMOOTHING, stride=1, padding=_SMOOTHING // 2)
    return smoothed.amax((1, 2, 3))
