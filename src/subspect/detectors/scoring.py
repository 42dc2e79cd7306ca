"""From anomaly maps to one score an image, for methods that score alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_SMOOTHING = 21


def image_score(anomaly_map: Tensor) -> Tensor:
    """The maximum of maps ``(N, 1, H, W)`` after a 21x21 mean filter that counts the zeros around them.

    As DSR's and DRAEM's reference code.
    """
    return mean_filter(anomaly_map, _SMOOTHING, zeros_around=True).amax((1, 2, 3))


def mean_filter(maps: Tensor, side: int, *, zeros_around: bool) -> Tensor:
    """Means over squares, by rows and then by columns: 2·side values are added up instead of side².

    Args:
        maps: ``(N, 1, H, W)``.
        side: Of the squares, in pixels; odd.
        zeros_around: Whether squares that reach beyond a map have zeros there, or are cut off.

    Returns:
        The mean over the square around each pixel, ``(N, 1, H, W)``.
    """
    reach = side // 2
    rows = F.avg_pool2d(maps, (1, side), stride=1, padding=(0, reach), count_include_pad=zeros_around)
    return F.avg_pool2d(rows, (side, 1), stride=1, padding=(reach, 0), count_include_pad=zeros_around)
