"""The codebook: nearest-code lookup with a straight-through gradient, and how the codes are learnt."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.distributed
from torch import Tensor, nn

from subspect.codes import code_distances, flatten_features, nearest_codes

_LEAST_SPREAD = 1e-4  # of a dimension in which all codes agree: nothing is divided by 0


class Quantized(NamedTuple):
    """A feature map in terms of a codebook.

    Attributes:
        features: ``(N, D, H, W)``, the nearest codes, in their precision whatever that of the input; the
            gradient passes straight to the input.
        indices: ``(N, H, W)``, int64, which codes; ``(N, G, H, W)`` of a ``ProductCodebook``.
    """

    features: Tensor
    indices: Tensor


class Codebook(nn.Module):
    """``codes`` vectors of length ``width``, learnt as exponential moving averages of what falls to them.

    The averages (paper, section 3.1; van den Oord et al. 2017, appendix A.1) are buffers: no gradient
    reaches the codes. ``measure`` must follow whatever else changes them.
    """

    codes: Tensor
    unit: Tensor
    average_sum: Tensor
    average_count: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        vectors = torch.randn(codes, width)
        self.register_buffer("codes", vectors)
        self.register_buffer("average_sum", vectors.clone())
        self.register_buffer("average_count", torch.zeros(codes))
        self.register_buffer("unit", torch.empty(width), persistent=False)
        self.measure()
        self.register_load_state_dict_post_hook(_measure)  # type: ignore[no-untyped-call]

    def forward(self, features: Tensor) -> Quantized:
        """Replaces each feature of ``(N, D, H, W)`` by its nearest code (squared L2 distance)."""
        indices = nearest_codes(features, self.grouped())[:, 0]
        return Quantized(features + (self.lookup(indices) - features).detach(), indices)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes ``(N, D, H, W)`` of indices ``(N, H, W)``."""
        return nn.functional.embedding(indices, self.codes).permute(0, 3, 1, 2)

    def books(self, features: Tensor, indices: Tensor) -> list[tuple[Codebook, Tensor, Tensor]]:
        """Itself with all of the features ``(N, D, H, W)`` and their indices ``(N, H, W)``."""
        return [(self, features, indices)]

    def grouped(self) -> Tensor:
        """The codes as those of one group, ``(1, K, D)``."""
        return self.codes[None]

    def spread(self) -> Tensor:
        """Standard deviation of the codes ``(D, 1, 1)``: the unit of each dimension of the features."""
        return self.unit[:, None, None]

    @torch.no_grad()
    def measure(self) -> None:
        """Computes the spread of the codes, which is needed at every step and image."""
        self.unit.copy_(self.codes.std(0, correction=0).clamp(min=_LEAST_SPREAD))

    @torch.no_grad()
    def update(self, features: Tensor, indices: Tensor, decay: float, epsilon: float = 1e-5) -> None:
        """Moves the codes towards the features ``(N, D, H, W)`` that fell to them, over all processes."""
        vectors = flatten_features(features).float()
        sums = torch.zeros_like(self.codes).index_add_(0, indices.flatten(), vectors)
        # Not by bincount, which a GPU is waited for at.
        counts = torch.zeros_like(self.average_count).index_add_(
            0, indices.flatten(), torch.ones_like(vectors[:, 0])
        )
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(counts)
        self.average_sum.lerp_(sums, 1 - decay)
        self.average_count.lerp_(counts, 1 - decay)
        total = self.average_count.sum()
        smoothed = (self.average_count + epsilon) / (total + len(self.codes) * epsilon) * total
        self.codes.copy_(self.average_sum / smoothed[:, None])
        self.measure()

    @torch.no_grad()
    def start_from(self, vectors: Tensor, count: float, generator: torch.Generator) -> None:
        """Sets the codes to the k-means centres of ``vectors`` (M, D), each with the average ``count``."""
        self.codes.copy_(k_means(vectors.float(), len(self.codes), generator))
        self.measure()
        self.go_on(count)

    @torch.no_grad()
    def go_on(self, count: float) -> None:
        """Begins the averages at the codes as they are, each with the average ``count``."""
        self.average_count.fill_(count)
        self.average_sum.copy_(self.codes * count)

    @torch.no_grad()
    def revive(self, vectors: Tensor, least_count: float, generator: torch.Generator) -> None:
        """Moves codes used less than ``least_count`` on average onto vectors drawn from ``vectors`` (M, D)."""
        dead = (self.average_count < least_count).nonzero().squeeze(1)
        drawn = torch.randint(len(vectors), (len(dead),), generator=generator, device=vectors.device)
        self.codes[dead] = vectors[drawn].float()
        self.measure()
        self.average_count[dead] = 1.0
        self.average_sum[dead] = self.codes[dead]


def _measure(book: Codebook, _keys: Any) -> None:
    book.measure()


class ProductCodebook(nn.Module):
    """Features cut into groups of dimensions, each with a codebook of its own (Jégou et al. 2011).

    G books of K codes tell K^G features apart at the cost of G·K comparisons.

    Args:
        codes: K, of each book.
        width: D, of a whole feature; a multiple of ``groups``.
        groups: G.
    """

    def __init__(self, codes: int, width: int, groups: int) -> None:
        super().__init__()
        if width % groups:
            raise ValueError(f"features of {width} channels do not divide into {groups} groups; change groups")
        self.parts = nn.ModuleList(Codebook(codes, width // groups) for _ in range(groups))

    def forward(self, features: Tensor) -> Quantized:
        """Replaces each part of each feature of ``(N, D, H, W)`` by its nearest code."""
        return _quantized(features, self.grouped())

    def last(self, features: Tensor, groups: int) -> Quantized:
        """The same of the last groups alone, for their parts ``(N, D * groups / G, H, W)`` of the features."""
        return _quantized(features, self.grouped()[-groups:])

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes ``(N, D, H, W)`` of indices ``(N, G, H, W)``."""
        return _looked_up(indices, self.grouped())

    def books(self, features: Tensor, indices: Tensor) -> list[tuple[Codebook, Tensor, Tensor]]:
        """Each book with its part of the features ``(N, D, H, W)`` and of their indices ``(N, G, H, W)``."""
        return list(zip(self._books(), features.chunk(len(self.parts), 1), indices.unbind(1), strict=True))

    def grouped(self) -> Tensor:
        """The codes of all groups, ``(G, K, D / G)``."""
        return torch.stack([book.codes for book in self._books()])

    def spread(self) -> Tensor:
        """Standard deviation of the codes ``(D, 1, 1)``: the unit of each dimension of the features."""
        return torch.cat([book.spread() for book in self._books()])

    def _books(self) -> list[Codebook]:
        return cast(list[Codebook], list(self.parts))


def _quantized(features: Tensor, codes: Tensor) -> Quantized:
    """Features ``(N, D, H, W)`` in terms of the codes ``(G, K, D / G)`` of their groups."""
    indices = nearest_codes(features, codes)
    return Quantized(features + (_looked_up(indices, codes) - features).detach(), indices)


def _looked_up(indices: Tensor, codes: Tensor) -> Tensor:
    """The codes ``(N, D, H, W)`` of indices ``(N, G, H, W)`` into codes ``(G, K, D / G)``."""
    groups, number, _ = codes.shape
    first = torch.arange(groups, device=indices.device) * number
    looked_up = nn.functional.embedding(indices.permute(0, 2, 3, 1) + first, codes.flatten(0, 1))
    return looked_up.flatten(3).permute(0, 3, 1, 2)


AnyCodebook = Codebook | ProductCodebook


def make_codebook(codes: int, width: int, groups: int) -> AnyCodebook:
    """One codebook, or one a group of dimensions."""
    return Codebook(codes, width) if groups == 1 else ProductCodebook(codes, width, groups)


def k_means(vectors: Tensor, count: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    """Centres (count, D) of Lloyd's algorithm on vectors (M, D), started on vectors drawn at random.

    A centre that loses all its vectors stays where it is. With fewer vectors than centres, vectors repeat.
    """
    order = torch.randperm(len(vectors), generator=generator, device=vectors.device)
    centres = vectors[order[torch.arange(count, device=vectors.device) % len(vectors)]].clone()
    for _ in range(iterations):
        nearest = code_distances(vectors, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        counts = torch.bincount(nearest, minlength=count)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return centres
