"""Samplers on one problem: what share of the exact front's hypervolume each reaches, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from syq_dse.cost.integers import ints
from syq_dse.search import samplers
from syq_dse.search.front import Front, Progress, front_of, hypervolume, reference_point
from syq_dse.search.problem import Problem

LIMIT_S = 60.0
"""After so many seconds a sampler begins no further generation: some slow down with its square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A generation of a sampler."""

    sampler: str
    seeded: bool  # with the exact front
    seed: int
    designs: int  # so far
    seconds: float  # so far
    share: float  # hypervolume of its own designs, in parts of the exact front's


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A sampler in the end: medians and ranges over seeds."""

    sampler: str
    seeded: bool
    seeds: int
    designs: int  # median
    seconds: float  # median
    share: float  # median
    least: float
    most: float


def compare(
    problem: Problem,
    front: Front,
    trials: int,
    seeds: int,
    seeded: bool,
    progress: Progress | None = None,
) -> list[Reached]:
    """Run every sampler with every seed.

    Args:
        trials: designs that each proposes, in LIMIT_S.
        seeds: 0 to seeds - 1.
        seeded: whether the exact front is what they start from; it does not count as theirs.
    """
    found: list[Reached] = []
    runs = [(name, seed) for name in samplers.SAMPLERS for seed in range(seeds)]
    for done, (name, seed) in enumerate(runs):
        for one in _run(problem, front, name, trials, seed, seeded):
            found.append(one)
            if progress:
                what = f"{name}, seed {seed}: {one.designs} designs, {one.share:.3f} of the front"
                progress(done, len(runs), what)
    return found


def _run(
    problem: Problem, front: Front, name: str, trials: int, seed: int, seeded: bool
) -> Iterator[Reached]:
    reference = reference_point(problem, front)
    whole = hypervolume(problem, front, reference)
    start = front.designs if seeded else front.designs[:0]
    own = front.designs[:0]
    count, since, seconds = 0, time.monotonic(), 0.0
    for designs in samplers.generations(problem, name, seed, trials, start):
        seconds += time.monotonic() - since
        count += len(designs)
        best = front_of(problem, ints(np.concatenate([own, designs])))
        own = best.designs
        share = hypervolume(problem, best, reference) / whole if whole else float("nan")
        yield Reached(
            sampler=name, seeded=seeded, seed=seed, designs=count, seconds=seconds, share=share
        )
        if seconds > LIMIT_S:
            return
        since = time.monotonic()


def in_the_end(found: list[Reached]) -> list[Compared]:
    """One line a sampler."""
    last: dict[tuple[str, bool, int], Reached] = {
        (one.sampler, one.seeded, one.seed): one for one in found
    }
    lines = []
    for name, seeded in dict.fromkeys((one.sampler, one.seeded) for one in found):
        own = [one for key, one in last.items() if key[:2] == (name, seeded)]
        shares = [one.share for one in own]
        lines.append(
            Compared(
                sampler=name,
                seeded=seeded,
                seeds=len(own),
                designs=int(np.median([one.designs for one in own])),
                seconds=float(np.median([one.seconds for one in own])),
                share=float(np.median(shares)),
                least=min(shares),
                most=max(shares),
            )
        )
    return lines
