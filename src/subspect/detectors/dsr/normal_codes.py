"""How rare each code is at each place of normal images: counted, since the latent space is discrete.

The paper's modules have 100,000 steps on whole images to learn what belongs where. A short training on crops
cannot, and what belongs where is most of what can be known of a surface (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subspect.detectors.dsr.folds import FOLDS

CELLS = 16
"""Places to a side of the image, in which codes are counted."""

_REACH = 0.7  # of a count into the neighbouring cells: standard deviation of a Gaussian, in cells
_PRIOR = 10.0  # images' worth of what is usual anywhere, added to what was seen in a cell
_EVEN = 0.01  # share of that in which all codes are as usual: a code never seen has a probability, too
_LEAST_SPREAD = 1e-2  # nats; nothing is divided by 0 where all images are the same


class Origin(NamedTuple):
    """Where crops of training images come from.

    Attributes:
        places: Of their pixels in the whole image, ``(N, 2, H, W)``, see `coordinates`.
        folds: Which they are of, ``(N,)``: 0 to ``FOLDS - 1``, or ``FOLDS`` for images that are not counted.
    """

    places: Tensor
    folds: Tensor


class Rarity(NamedTuple):
    """How unusual codes are where they are.

    Attributes:
        groups: Negative logarithm of each code's probability, in nats, ``(N, G, h, w)``.
        together: Their sum over the groups, after a 3x3 mean, ``(N, 1, h, w)``; over normal images of other
            folds it has mean 0 and standard deviation 1.
    """

    groups: Tensor
    together: Tensor


class NormalCodes(nn.Module):
    """Probabilities of the codes in a grid of 16x16 cells, from normal images.

    A training image's own codes look usual because they were counted; a module trained on that is blind to what
    is slightly unusual in images it has not seen. So each is compared with the other folds only.

    Args:
        groups: G, how many codebooks are counted: the first, where codes of more are given.
        codes: K, of each.
    """

    rarity: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, groups: int, codes: int) -> None:
        super().__init__()
        self.groups, self.codes = groups, codes
        # Without each fold, and last from all.
        unknown = torch.full((FOLDS + 1, groups * codes, CELLS**2), math.log(codes), dtype=torch.float16)
        self.register_buffer("rarity", unknown)
        self.register_buffer("centre", torch.tensor(groups * math.log(codes)))
        self.register_buffer("spread", torch.tensor(1.0))

    def forward(self, indices: Tensor, origin: Origin | None) -> Rarity:
        """Looks codes up.

        Args:
            indices: Which codes, ``(N, G, h, w)``, or ``(N, h, w)`` of a single codebook.
            origin: Of crops of training images, at the size of the codes; None for whole images.
        """
        indices = self._of_groups(indices)
        if origin is None:
            rarity = self._look_up(indices, _cells_of_all(indices), None)
        else:
            rarity = self._look_up(indices, _cells_at(origin.places), origin.folds)
        return Rarity(rarity, (_together(rarity) - self.centre) / self.spread)

    @torch.no_grad()
    def fit(self, indices: Sequence[Tensor], folds: Sequence[Tensor]) -> None:
        """Counts the codes of whole normal images.

        Where all are of one fold, a single image for example, there are no others to compare them with: they
        are compared with all.

        Args:
            indices: Which codes, as ``forward`` takes them, some images at a time, on any device.
            folds: Of these images, ``(n,)`` each.
        """
        counts = torch.zeros(FOLDS, self.groups, self.codes, CELLS, CELLS)
        for codes, fold in zip(indices, folds, strict=True):
            counts += self._counted(self._of_groups(codes.long().cpu()), fold.cpu())
        everything = counts.sum(0, keepdim=True)
        others = everything - counts
        if not others[counts.flatten(1).any(1)].any():
            others = everything.expand_as(others)
        for table, count in enumerate(torch.cat((others, everything))):
            self.rarity[table] = -_probabilities(count).log().view_as(self.rarity[table])
        sums = []
        for codes, fold in zip(indices, folds, strict=True):
            codes, fold = codes.long().to(self.rarity.device), fold.to(self.rarity.device)
            codes = self._of_groups(codes)
            sums.append(_together(self._look_up(codes, _cells_of_all(codes), fold)).cpu())
        total = torch.cat(sums)
        self.centre.copy_(total.mean())
        self.spread.copy_(total.std().clamp(min=_LEAST_SPREAD))

    def forget_folds(self) -> None:
        """Keeps what whole images need, and no more; nothing can be trained with it from then on."""
        self.rarity = self.rarity[-1:].clone()

    def _of_groups(self, indices: Tensor) -> Tensor:
        """Indices ``(N, G, h, w)`` of what is counted; those of a single codebook come without G."""
        return indices[:, : self.groups] if indices.dim() == 4 else indices[:, None]

    def _look_up(self, indices: Tensor, cells: Tensor, folds: Tensor | None) -> Tensor:
        """The rarity of codes ``(N, G, h, w)`` in cells, without folds ``(N,)`` or among all images."""
        book = torch.arange(self.groups, device=indices.device)[:, None, None]
        if folds is not None:
            book = book + folds[:, None, None, None] * self.groups
        table = self.rarity[-1] if folds is None else self.rarity
        return table.flatten()[(book * self.codes + indices) * CELLS**2 + cells].float()

    def _counted(self, indices: Tensor, folds: Tensor) -> Tensor:
        """Images that have each code in each cell, also parts of one: ``(FOLDS, G, K, CELLS, CELLS)``."""
        book = folds[:, None, None, None] * self.groups + torch.arange(self.groups)[:, None, None]
        places = (book * self.codes + indices) * CELLS**2 + _cells_of_all(indices)
        counts = torch.bincount(places.flatten(), minlength=FOLDS * self.groups * self.codes * CELLS**2)
        height, width = indices.shape[2:]
        return counts.view(FOLDS, self.groups, self.codes, CELLS, CELLS) * (CELLS**2 / (height * width))


def coordinates(size: tuple[int, int], device: torch.device) -> Tensor:
    """Where the pixels of a whole image are: right and down, ``(2, H, W)``, from -1 to 1 between its edges."""
    down, right = ((2 * torch.arange(length, device=device) + 1) / length - 1 for length in size)
    return torch.stack((right.expand(*size), down[:, None].expand(*size)))


def _together(rarity: Tensor) -> Tensor:
    """The sum over the groups of ``(N, G, h, w)`` after a 3x3 mean, ``(N, 1, h, w)``, in nats."""
    return F.avg_pool2d(rarity.sum(1, keepdim=True), 3, 1, 1, count_include_pad=False)


def _cells_of_all(indices: Tensor) -> Tensor:
    """The numbers of the cells that the codes ``(N, G, h, w)`` of a whole image lie in, ``(h, w)``.

    In whole numbers: an export must not round a border to the other side.
    """
    down, right = (
        (2 * torch.arange(length, device=indices.device) + 1) * CELLS // (2 * length)
        for length in indices.shape[2:]
    )
    return down[:, None] * CELLS + right


def _cells_at(places: Tensor) -> Tensor:
    """The numbers of the cells that places ``(N, 2, h, w)`` lie in, ``(N, 1, h, w)``."""
    right, down = ((places + 1) / 2 * CELLS).long().clamp(0, CELLS - 1).unbind(1)
    return (down * CELLS + right)[:, None]


def _probabilities(counts: Tensor) -> Tensor:
    """Of the codes in each cell, ``(G, K, CELLS, CELLS)``, from counts of the same shape."""
    anywhere = counts.sum((2, 3), keepdim=True)
    usual = anywhere / anywhere.sum(1, keepdim=True).clamp(min=1.0)
    prior = _PRIOR * ((1 - _EVEN) * usual + _EVEN / counts.shape[1])
    near = _blurred(counts)
    return (near + prior) / (near.sum(1, keepdim=True) + prior.sum(1, keepdim=True))


def _blurred(counts: Tensor) -> Tensor:
    """Gaussian sums over neighbouring cells; a cell itself counts fully."""
    reach = math.ceil(3 * _REACH)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / _REACH) ** 2)
    planes = F.pad(counts.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    rows = F.conv2d(planes, kernel[None, None, :, None])
    return F.conv2d(rows, kernel[None, None, None, :])[:, 0].view_as(counts)
