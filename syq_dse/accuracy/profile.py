"""Sensitivity profile: what each choice of a layer or tensor costs by itself.

The reference is the network with int8 weights and codes of 8 bits everywhere, started from a float
network. One layer or one tensor is then quantised otherwise: scales and range are set from weights
and data as a training sets them, batch-norm from there on is estimated anew, nothing is trained.
Ranges and batch-norm see images that the float network was trained with, the measure others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from syq_dse.network import INPUT, Network
from syq_dse.quant import weights
from syq_dse.quant.model import Model, Weighted
from syq_dse.scheme import (
    GRANULARITIES,
    SCALES,
    WEIGHTS,
    LayerScheme,
    normal,
    tensors,
    uniform,
)
from syq_dse.train import start
from syq_dse.train.training import averaging, settled

REFERENCE_BITS = 8

BATCH_BYTES = 1 << 29
"""Memory for what all layers write of one batch."""

LARGEST_BATCH = 500

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Mean and variance of batch-norms, by layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to quantise a layer's weights, or a tensor; with neither, the reference itself."""

    layer: str = ""
    scheme: LayerScheme | None = None
    tensor: str = ""
    bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one choice, over all images.

    Attributes:
        top1: 0 to 1.
        loss: mean cross entropy with the labels [nats].
        mse: mean square error of the logits against the float network's.
        kl: mean divergence of the float network's classes from this one's [nats].
    """

    choice: Choice
    top1: float
    loss: float
    mse: float
    kl: float


def choices(network: Network) -> dict[str, tuple[Choice, ...]]:
    """The choices of every layer with weights, and of every tensor as `bits.NAME`.

    A residual branch has at least 2 bits, of which one is its sign.
    """
    found: dict[str, tuple[Choice, ...]] = {}
    every = [
        LayerScheme(weights=w, granularity=g, scale=s)
        for w, g, s in itertools.product(WEIGHTS, GRANULARITIES, SCALES)
    ]
    for node in network.engines:
        own = dict.fromkeys(normal(node, layer) for layer in every)
        found[node.name] = tuple(Choice(layer=node.name, scheme=layer) for layer in own)
    for tensor in tensors(network).values():
        if tensor.kind != "result":
            found[f"bits.{tensor.name}"] = tuple(
                Choice(tensor=tensor.name, bits=bits) for bits in range(1 + tensor.signed, 9)
            )
    return found


class Profiler:
    """Measures choices of one network.

    Args:
        state: the float network's `named_state`.
        seen: images (n, channels, rows, columns), uint8, for ranges and batch-norm.
        images, labels: to measure on.
    """

    def __init__(
        self,
        network: Network,
        state: Mapping[str, Tensor],
        seen: Tensor,
        images: Tensor,
        labels: Tensor,
    ) -> None:
        self.network, self.seen, self.images, self.labels = network, seen, images, labels
        size = sum(node.out_shape.size for node in network.nodes) * 4
        self.batch = max(1, min(LARGEST_BATCH, BATCH_BYTES // size))
        cpu = torch.device("cpu")
        self.plain = settled(Model(network).eval(), cpu)
        self.plain.load_named_state(state, "the float network")
        self.model = settled(Model(network, uniform(network, LayerScheme(), REFERENCE_BITS)), cpu)
        start.start_from_float(self.model, state, seen[: start.CALIBRATION_IMAGES], "calibrated")
        self.model.eval()
        self._layers: dict[Choice, Weighted] = {}
        self._ranges: dict[tuple[str, int], float] = {}
        self.places = {node.name: i for i, node in enumerate(network.nodes)} | {INPUT: 0}
        (statistics,) = self._estimated(0, [Choice()])
        _set(self.model, statistics)

    @cached_property
    def wanted(self) -> Tensor:
        """The float network's logits."""
        with torch.no_grad():
            return torch.cat([self.plain(x) for x in torch.split(self.images, self.batch)])

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """What the float network's layers write, of the images that ranges are found with."""
        with torch.no_grad():
            return self.plain.run(self.seen[: start.CALIBRATION_IMAGES], keep=True)

    def float_row(self) -> Row:
        """The float network, by the same measures."""
        return self._row(Choice(), self.wanted)

    @torch.no_grad()
    def measure(self, own: Sequence[Choice]) -> list[Row]:
        """Measure choices of one layer or tensor; the layers before it are computed once."""
        first = self.places[own[0].layer or own[0].tensor or INPUT]
        statistics = self._estimated(first, own)
        logits: list[list[Tensor]] = [[] for _ in own]
        for x in torch.split(self.images, self.batch):
            given = self._before(x, first)
            for out, choice, found in zip(logits, own, statistics, strict=True):
                with self._changed(choice, found):
                    out.append(self.model.logits_of(self.model.run(x, given=given)))
        return [self._row(choice, torch.cat(out)) for choice, out in zip(own, logits, strict=True)]

    def _before(self, x: Tensor, first: int) -> dict[str, Tensor]:
        """What the reference's layers before a place write."""
        if not first:
            return {}
        others = {node.name: x for node in self.network.nodes[first:]}  # in no one's way
        kept = self.model.run(x, keep=True, given=others)
        return {node.name: kept[node.name] for node in self.network.nodes[:first]}

    @torch.no_grad()
    def _estimated(self, first: int, own: Sequence[Choice]) -> list[Statistics]:
        """Batch-norm's statistics from a place on, of each choice, over the images `seen`."""
        found: list[Statistics] = [{} for _ in own]
        behind = {node.name for node in self.network.nodes[first:]}
        for index, x in enumerate(torch.split(self.seen, self.batch)):
            given = self._before(x, first)
            for choice, statistics in zip(own, found, strict=True):
                with self._changed(choice, statistics):
                    with averaging(self.model, index):
                        self.model.run(x, given=given)
                    statistics |= _statistics(self.model, behind)
        return found

    @contextmanager
    def _changed(self, choice: Choice, statistics: Statistics) -> Iterator[None]:
        """The model with a choice and with statistics, as long as the block lasts."""
        model = self.model
        weighted, bits = dict(model.weighted), dict(model.bits)
        ranges = {name: value.clone() for name, value in model.ranges.items()}
        before = _statistics(model, set(weighted))
        _set(model, statistics)
        if choice.scheme is not None:
            if choice not in self._layers:
                self._layers[choice] = self._weighted(choice.layer, choice.scheme)
            model.weighted[choice.layer] = self._layers[choice]
        elif choice.tensor:
            model.bits[choice.tensor] = choice.bits
            if choice.tensor in model.ranges and choice.tensor != INPUT:
                model.ranges[choice.tensor].fill_(self._range(choice.tensor, choice.bits))
        try:
            yield
        finally:
            model.weighted.update(weighted)
            model.bits.update(bits)
            for name, value in ranges.items():
                model.ranges[name].copy_(value)
            _set(model, before)

    def _weighted(self, name: str, layer: LayerScheme) -> Weighted:
        """A layer quantised otherwise, with the same weights and batch-norm."""
        old = self.model.weighted[name]
        new = Weighted(old.node, layer, old.dead_zone).eval()
        new.weight, new.bias, new.gain, new.offset = old.weight, old.bias, old.gain, old.offset
        if old.gain is not None:
            new.mean, new.variance = old.mean, old.variance
        assert new.scale is not None
        new.scale.copy_(weights.first_scales(new.weight, layer))
        return new

    def _range(self, name: str, bits: int) -> float:
        """The range with which codes of so many bits are nearest to what a layer writes."""
        key = name, bits
        if key not in self._ranges:
            ends, top = self.model.code_range(name), self.model.top(name)
            self._ranges[key] = start.best_range(self.values[name], *ends, top)
        return self._ranges[key]

    def _row(self, choice: Choice, logits: Tensor) -> Row:
        wanted, own = F.log_softmax(self.wanted, dim=1), F.log_softmax(logits, dim=1)
        kl = F.kl_div(own, wanted, reduction="batchmean", log_target=True)
        return Row(
            choice=choice,
            top1=float((logits.argmax(1) == self.labels).double().mean()),
            loss=float(F.cross_entropy(logits, self.labels)),
            mse=float((logits - self.wanted).square().mean()),
            kl=max(0.0, float(kl)),
        )


def _statistics(model: Model, names: set[str]) -> Statistics:
    return {
        name: (layer.mean.clone(), layer.variance.clone())
        for name, layer in model.weighted.items()
        if name in names and layer.gain is not None
    }


def _set(model: Model, statistics: Statistics) -> None:
    for name, (mean, variance) in statistics.items():
        model.weighted[name].mean.copy_(mean)
        model.weighted[name].variance.copy_(variance)
