"""A recipe: how a network is trained, as data."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from syq_dse import catalogue, records
from syq_dse.errors import InputError
from syq_dse.train.images import Augmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe's TOML file. What is 0 or absent is off; shares are of the whole training."""

    name: str
    provenance: str
    start: Literal["float", "random"] = "float"
    epochs: int | None = None  # None: what the network's file says
    batch: int = 128  # images

    learning_rate: float  # of Adam
    scale_rate: float | None = None  # of the scales, in parts of where they start; None: the same
    range_rate: float | None = None  # of learned ranges; None: the same
    epsilon: float = 1e-8
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    steps: tuple[tuple[float, float], ...] = ()  # from which share on, times which factor
    warmup: float = 0.0  # share in which the rate rises from 0
    l2: float = 0.0  # times the weight, added to its gradient
    l2_on: Literal["dense", "all"] = "all"
    decay: float = 0.0  # times the rate and the weight, taken off it (AdamW)
    label_smoothing: float = 0.0
    augmentation: Augmentation | None = None  # None: the data set's

    float_ends: bool = False  # float weights in the first and last layer: no integers follow
    dead_zone: Literal["code", "scaled"] = "code"
    ranges: Literal["unit", "calibrated", "learned"] = "calibrated"  # of activations
    formats_from: float = 0.0  # share from which on scales have their hardware's format
    progressive: float = 0.0  # share in which activations come down from 8 bits
    distillation: float = 0.0  # weight of the float network's logits in the loss
    temperature: float = 4.0  # of both logits there
    damping: float = 0.0  # weight of (W - W_eff)^2, against codes that swing to and fro
    ema: float = 0.0  # decay a step of the average that is kept of all weights
    reestimate: int = 0  # images from which batch-norm is estimated anew at the end

    def __post_init__(self) -> None:
        catalogue.check_name(self.name)
        for name, least, most in BOUNDS:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and least <= value <= most):
                raise InputError(f"{name} must be {least:g} to {most:g}, got {value}")
        if self.schedule == "steps" and not self.steps:
            raise InputError("schedule 'steps' needs steps, for example [[0.5, 0.1]]")
        shares = [share for share, _ in self.steps]
        if any(later <= share for share, later in itertools.pairwise(shares)):
            raise InputError(f"steps must ascend, got shares {shares}")
        for share, factor in self.steps:
            if not (0 <= share <= 1 and 0 <= factor < math.inf):
                raise InputError(
                    f"steps must be shares 0 to 1 and factors, got [{share}, {factor}]"
                )


BOUNDS = (
    ("epochs", 1, 1 << 20),
    ("batch", 1, 1 << 20),
    ("learning_rate", 1e-12, 10),
    ("scale_rate", 0, 10),
    ("range_rate", 0, 10),
    ("epsilon", 1e-16, 1),
    ("warmup", 0, 1),
    ("l2", 0, 1),
    ("decay", 0, 10),
    ("label_smoothing", 0, 0.99),
    ("formats_from", 0, 1),
    ("progressive", 0, 1),
    ("distillation", 0, 1),
    ("temperature", 0.01, 1000),
    ("damping", 0, 1000),
    ("ema", 0, 0.99999),
    ("reestimate", 0, 1 << 30),
)


def load(name: str) -> Recipe:
    """The shipped recipe of this name, or the one in a user's TOML file.

    >>> load("paper").learning_rate
    0.0001
    """
    return records.load(catalogue.find("recipe", name, "models", ("recipes",)), Recipe)


def rate_factor(recipe: Recipe, done: float) -> float:
    """What the rate is multiplied with after a share of the training.

    >>> [rate_factor(load("paper"), done) for done in (0.0, 0.56, 0.7)]
    [1.0, 0.2, 0.04]
    """
    if done < recipe.warmup:
        return done / recipe.warmup
    if recipe.schedule == "steps":
        return next((by for share, by in reversed(recipe.steps) if done >= share), 1.0)
    if recipe.schedule == "constant":
        return 1.0
    left = (done - recipe.warmup) / max(1 - recipe.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * left))
