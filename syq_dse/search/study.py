"""A study: all that a search depends on, in one record that a run keeps beside its results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from syq_dse.cost.estimate import LIMIT
from syq_dse.errors import InputError
from syq_dse.search.space import Space

Sampler = Literal["exact", "nsga2", "nsga3", "tpe", "gp", "random", "all"]

DEFAULT_NETWORK = "fmnist-vgg"

SHIPPED, NONE = "shipped", "none"
"""Sensitivity profiles: the one that comes with a shipped network, if any; none, but the prior."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is searched for, where, and how long.

    `studies/*.toml` are such records; every field has a default but the target.
    """

    target: str
    network: str = DEFAULT_NETWORK
    objectives: tuple[str, ...] = ("accuracy", "fps")
    limit: float = LIMIT  # share of each resource that may be filled
    fps: float | None = None  # least images a second
    clock_mhz: float | None = None  # None: the target's
    area_mm2: float | None = None  # budget of a technology; None: its own
    node_nm: float | None = None  # that a technology is scaled to; None: its own
    profile: str = SHIPPED  # that of the network, or a file, or NONE
    space: Space = field(default_factory=Space)
    sampler: Sampler = "exact"
    trials: int = 2000  # designs that a sampler proposes after the exact front
    seed: int = 0
    seeded: bool = True  # whether samplers start from the exact front
    repeats: int = 5  # seeds of each, where all are compared

    def __post_init__(self) -> None:
        if not 0 <= self.trials <= 10_000_000:
            raise InputError(f"trials must be 0 to 10000000, got {self.trials}")
        if not 1 <= self.repeats <= 1000:
            raise InputError(f"repeats must be 1 to 1000, got {self.repeats}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be 0 to 4294967295, got {self.seed}")
        if not 0 < self.limit <= 1:
            raise InputError(f"limit must be above 0 and at most 1, got {self.limit}")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"fps must be positive, got {self.fps}")


def differences(one: Study, other: Study) -> list[str]:
    """The settings in which two studies differ, as `name: this, not that`."""
    return [
        f"{name}: {_words(mine)}, not {_words(theirs)}"
        for name, mine, theirs in _pairs(one, other)
        if mine != theirs
    ]


def _words(value: object) -> str:
    """A setting as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _pairs(one: Study, other: Study) -> list[tuple[str, object, object]]:
    pairs = []
    for item in dataclasses.fields(Study):
        mine, theirs = getattr(one, item.name), getattr(other, item.name)
        if item.name == "space":
            for inner in dataclasses.fields(Space):
                pairs.append(
                    (f"space.{inner.name}", getattr(mine, inner.name), getattr(theirs, inner.name))
                )
        else:
            pairs.append((item.name, mine, theirs))
    return pairs
