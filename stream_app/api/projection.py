"""Vectors laid on the plane on which some of them differ most. Pure.

Legend: N vectors that span the plane, M others, D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.interface import Float32

Float64 = npt.NDArray[np.float64]


class Plane(NamedTuple):
    """The first two principal components of some vectors."""

    middle: Float64
    """[D] their mean, which is laid at 0, 0."""
    axes: Float64
    """[2, D] unit length, or zero where the vectors do not differ so many ways."""
    explained: tuple[float, float]
    """Share of the vectors' variance along each axis."""

    def lay(self, vectors: Float32) -> Float64:
        """Return [M, 2] where vectors [M, D] come to lie."""
        laid: Float64 = (vectors.astype(np.float64) - self.middle) @ self.axes.T
        return laid


def plane_of(vectors: Float32) -> Plane:
    """Return the plane of vectors [N, D].

    Each axis is turned so that its largest number is positive: the sign of a principal component
    means nothing, and a picture must not flip from one request to the next.

    >>> plane = plane_of(np.float32([[0, 0, 1], [4, 0, 1], [2, 1, 1]]))
    >>> plane.lay(np.float32([[2, 0, 1]])).round(2).tolist(), round(sum(plane.explained), 6)
    ([[0.0, -0.33]], 1.0)
    """
    numbers = vectors.astype(np.float64)
    dimensions = numbers.shape[1]
    axes = np.zeros((2, dimensions))
    if not len(numbers):
        return Plane(np.zeros(dimensions), axes, (0.0, 0.0))
    middle = numbers.mean(axis=0)
    _, lengths, components = np.linalg.svd(numbers - middle, full_matrices=False)
    variances = lengths**2
    total = float(variances.sum())
    if total < 1e-12:  # one point, or all the same: rounding errors are no direction
        return Plane(middle, axes, (0.0, 0.0))
    ways = min(2, len(components))
    axes[:ways] = components[:ways]
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.where(axes[np.arange(2), largest] < 0.0, -1.0, 1.0)[:, None]
    shares = [float(variance) / total for variance in variances[:2]] + [0.0, 0.0]
    return Plane(middle, axes, (shares[0], shares[1]))
