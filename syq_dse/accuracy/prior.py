"""Accuracy from published figures alone: no data and no trained network are seen.

The loss of a uniformly quantised network, relative to its float accuracy, is taken as

    scale * (u * q(weights) + v * r(bits)),   q = 1 / (levels - 1)**2,   r = 1 / (2**bits - 1)**2,

the power of the quantisation noise of weights and activations. u and v are fitted (non-negative
least squares) to every published row whose float accuracy is published too; `scale` is one number a
network, fitted to its rows and to one more that says 1, so that rows at many bits, which tell
little, change little. A mixed scheme loses the mean over its layers: published figures say nothing
about single layers, so all inner layers and tensors count alike. Nor do they tell granularities or
scale formats apart, so these change nothing here. int8 loses next to nothing, and what the first
and last layer lose at fewer bits is taken as for any other layer.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import optimize

from syq_dse import catalogue
from syq_dse.network import Network
from syq_dse.scheme import Scheme, fixed_bits, tensors, weight_max

Floats = npt.NDArray[np.float64]

FLOAT_BITS = 32

ENOUGH_ROWS = 4
"""Published rows of a network from which its own error is taken; with fewer, that of all."""


@dataclass(frozen=True, slots=True)
class Published:
    """One published accuracy; bits of 32 stand for floating point."""

    network: str
    weight_bits: int
    activation_bits: int
    top1: float  # 0 to 1
    source: str

    @property
    def noise(self) -> tuple[float, float]:
        """Noise power of weights and activations, as in the module's formula."""
        return _weight_noise(2 ** (self.weight_bits - 1) - 1), activation_noise(
            self.activation_bits
        )

    @property
    def is_float(self) -> bool:
        return self.weight_bits == self.activation_bits == FLOAT_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """The prior of one network.

    Attributes:
        base: float top-1, 0 to 1; 1 where none is published and none can be inferred.
        weights, activations: loss of accuracy at noise 1 of all weights or activations.
        error: largest absolute error over the published rows, each left out of the fit in turn.
        rows: how many published rows of this network it rests on.
        relative: whether `base` is unknown, so that accuracies are relative to the float network.
    """

    base: float
    weights: float
    activations: float
    error: float
    rows: int
    relative: bool

    @property
    def note(self) -> str:
        """One sentence for every output."""
        if self.relative:
            return (
                "prior, relative to the float network (no published accuracy of this network): "
                f"pooled losses of other networks, +-{100 * self.error:.1f} points"
            )
        return (
            f"prior: interpolated from {self.rows} published figures of this network, "
            f"+-{100 * self.error:.1f} points (worst when left out)"
        )


def activation_noise(bits: int) -> float:
    """Noise power of `bits` bit activations, 1 for one bit; 0 in floating point."""
    return 0.0 if bits == FLOAT_BITS else 1.0 / (2**bits - 1) ** 2


def weight_noise(weights: str) -> float:
    """Noise power of a codebook, 1 for binary."""
    return 1.0 if weights == "binary" else _weight_noise(weight_max(weights))


def _weight_noise(largest: int) -> float:
    """Noise power of codes -largest to largest; below 1 there are only the two signs."""
    if largest >= 2 ** (FLOAT_BITS - 1) - 1:
        return 0.0
    return 1.0 / max(1, 2 * largest) ** 2


@cache
def published() -> tuple[Published, ...]:
    """The rows of models/published_accuracy.csv."""
    path = catalogue.folder("models") / "published_accuracy.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Published(
                row["network"],
                int(row["weight_bits"]),
                int(row["activation_bits"]),
                float(row["top1"]) / 100,
                row["source"],
            )
            for row in csv.DictReader(stream)
        )


def pooled(rows: tuple[Published, ...]) -> tuple[float, float]:
    """(u, v) of the module's formula over all networks with a published float accuracy."""
    noise, losses = [], []
    for name in sorted({row.network for row in rows}):
        base = _float_top1(rows, name)
        if base is None:
            continue
        for row in rows:
            if row.network == name and not row.is_float:
                noise.append(row.noise)
                losses.append(1 - row.top1 / base)
    u, v = optimize.nnls(np.asarray(noise), np.maximum(0.0, np.asarray(losses)))[0]
    return float(u), float(v)


def fit(name: str, rows: tuple[Published, ...]) -> Prior:
    """The prior of a network by name, its error found by leaving rows out in turn."""
    own = [row for row in rows if row.network == name and not row.is_float]
    base, weights, activations, relative = _fit(name, rows)
    tried = own if len(own) >= ENOUGH_ROWS else [row for row in rows if not row.is_float]
    errors = [0.0]
    for row in tried:
        rest = tuple(r for r in rows if r is not row)
        left, w, a, unknown = _fit(row.network, rest)
        if not unknown:
            errors.append(abs(left - w * row.noise[0] - a * row.noise[1] - row.top1))
    return Prior(
        base=base,
        weights=weights,
        activations=activations,
        error=max(errors),
        rows=sum(row.network == name for row in rows),
        relative=relative,
    )


def load(network: Network) -> Prior:
    """The prior of a network."""
    return fit(network.name, published())


def accuracy(prior: Prior, network: Network, scheme: Scheme) -> float:
    """Top-1 that the prior expects of a scheme, 0 to 1."""
    weights = weight_shares(network)
    tensors = tensor_shares(network)
    loss = sum(
        s * prior.weights * weight_noise(scheme.layers[n].weights) for n, s in weights.items()
    )
    loss += sum(
        s * prior.activations * activation_noise(scheme.bits[n]) for n, s in tensors.items()
    )
    return prior.base - loss


def weight_shares(network: Network) -> dict[str, float]:
    """Share of each layer in the loss of the weights: all inner layers alike, the others as one."""
    inner = max(1, len(network.engines) - 2)
    return {node.name: 1 / inner for node in network.engines}


def tensor_shares(network: Network) -> dict[str, float]:
    """Share of each tensor in the loss of the activations: all that the space varies alike."""
    names = {t.name for t in tensors(network).values() if t.kind != "result"}
    varied = len(names - set(fixed_bits(network)))
    return {name: 1 / max(1, varied) for name in sorted(names)}


def _float_top1(rows: tuple[Published, ...], name: str) -> float | None:
    found = [row.top1 for row in rows if row.network == name and row.is_float]
    return float(np.median(found)) if found else None


def _fit(name: str, rows: tuple[Published, ...]) -> tuple[float, float, float, bool]:
    """Base, loss of the weights, loss of the activations, whether the base is unknown."""
    u, v = pooled(rows)
    own = [row for row in rows if row.network == name and not row.is_float]
    base = _float_top1(rows, name)
    if not own:
        known = base if base is not None else 1.0
        return known, known * u, known * v, base is None
    shape = np.asarray([u * row.noise[0] + v * row.noise[1] for row in own])
    top1 = np.asarray([row.top1 for row in own])
    if base is None:
        if len({row.noise for row in own}) < 2:
            return 1.0, u, v, True
        slope, offset = np.polyfit(shape, top1, 1)
        base, loss = float(offset), max(0.0, -float(slope))
        return base, loss * u, loss * v, False
    expected = [u * row.noise[0] + v * row.noise[1] for row in rows if not row.is_float]
    anchor = float(np.mean(np.square(expected)))
    scale = float((shape @ (1 - top1 / base) + anchor) / (shape @ shape + anchor))
    loss = base * max(0.0, scale)
    return base, loss * u, loss * v, False
