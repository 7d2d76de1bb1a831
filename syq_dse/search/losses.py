"""An additive accuracy as integers: a loss for each choice and for each tensor's precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from syq_dse.accuracy import prior as priors
from syq_dse.accuracy.predictor import Predictor
from syq_dse.accuracy.prior import Prior
from syq_dse.cost.integers import Ints
from syq_dse.cost.table import Table
from syq_dse.scheme import Scheme

LOSS_UNIT = 1e-12
"""Losses are integers of this unit, so that equal sums are equal whatever their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """An additive accuracy: a base less a loss for each choice and each tensor's precision.

    Attributes:
        base: accuracy of the float network, 0 to 1.
        engines: for every engine, the loss of each of its choices [LOSS_UNIT].
        tensors: for every tensor, the loss of each of its precisions [LOSS_UNIT].
        half: half width of the interval that goes with a scheme's accuracy.
        source: what accuracies are: `prior`, `predicted`.
        note: one sentence on where they come from.
    """

    base: float
    engines: Mapping[str, Ints]
    tensors: Mapping[str, Ints]
    half: Callable[[Scheme], float]
    source: Literal["prior", "predicted"]
    note: str


def from_prior(prior: Prior, table: Table) -> Losses:
    """The losses of every choice in a table, as `prior.accuracy` adds them up."""
    layers = priors.weight_shares(table.network)
    tensors = priors.tensor_shares(table.network)
    return Losses(
        base=prior.base,
        engines={
            name: _units(
                [
                    layers[name] * prior.weights * priors.weight_noise(option.scheme.weights)
                    for option in options
                ]
            )
            for name, options in table.choices.items()
        },
        tensors={
            name: _units(
                [tensors[name] * prior.activations * priors.activation_noise(b) for b in options]
            )
            for name, options in table.bits.items()
        },
        half=lambda scheme: prior.error,
        source="prior",
        note=prior.note,
    )


def from_predictor(predictor: Predictor, table: Table) -> Losses:
    """The losses of every choice in a table, as `predictor.accuracy` adds them up."""
    return Losses(
        base=predictor.base,
        engines={
            name: _units([predictor.layers[name][option.scheme.weights] for option in options])
            for name, options in table.choices.items()
        },
        tensors={
            name: _units([predictor.tensors[name][bits] for bits in options])
            for name, options in table.bits.items()
        },
        half=lambda scheme: predictor.accuracy(scheme)[1],
        source="predicted",
        note=predictor.note,
    )


def _units(losses: list[float]) -> Ints:
    return np.rint(np.asarray(losses) / LOSS_UNIT).astype(np.int64)
