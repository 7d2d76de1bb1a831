"""The exact front against all designs of small problems, one by one."""

from __future__ import annotations

import re

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.integers import ints
from syq_dse.cost.table import price
from syq_dse.errors import InfeasibleError
from syq_dse.search import exact, front
from syq_dse.search.problem import Problem
from syq_dse.search.stages import Chain, Stage, chain

from . import tiny
from .small import LIMITED

FEW = settings(derandomize=True, max_examples=12, deadline=None)

CAPACITIES = st.fixed_dictionaries(
    {
        "lut": st.integers(1500, 30_000),
        "dsp": st.integers(0, 60),
        "bram18": st.integers(0, 30),
        "lutram": st.integers(0, 1500),
    }
)


def volume_ratio(found: Problem, expected: np.ndarray, made: front.Front) -> float:
    """Hypervolume of a front as a share of the one that it should be."""
    worst, best = expected.max(axis=0), expected.min(axis=0)
    reference = worst + 0.1 * np.maximum(worst - best, 1e-6 + abs(worst))
    whole = moocore.hypervolume(expected, ref=reference)
    return float(moocore.hypervolume(found.minimised(made.values), ref=reference) / whole)


def check(found: Problem) -> front.Front | None:
    """The front has the hypervolume of all designs, or says that it may not; it is never better."""
    expected = tiny.front_values(found, tiny.every_design(found))
    try:
        made = front.exact_front(found)
    except InfeasibleError:
        assert not len(expected)
        return None
    ratio = volume_ratio(found, expected, made)
    assert ratio <= 1 + 1e-9
    if made.exact:
        assert ratio >= 1 - 1e-9
        assert len(made.values) == len(expected)
    return made


@pytest.mark.parametrize("name", tiny.NETWORKS)
@FEW
@given(capacity=CAPACITIES, seed=st.integers(0, 10**6))
def test_accuracy_and_fps_under_several_limits(
    name: str, capacity: dict[str, int], seed: int
) -> None:
    made = check(tiny.problem(name, capacity=capacity, seed=seed))
    assert made is None or made.exact


@pytest.mark.parametrize("name", tiny.NETWORKS)
def test_accuracy_and_fps_of_the_prior(name: str) -> None:
    made = check(tiny.problem(name, capacity={"lut": 6000, "bram18": 10, "dsp": 10}))
    assert made is not None and made.exact


@pytest.mark.parametrize(
    "objectives",
    [
        ("accuracy", "lut"),
        ("accuracy", "fps", "lut"),
        ("accuracy", "dsp", "bram"),
        ("lut", "fps"),
        ("accuracy", "energy"),
        ("accuracy", "fps", "utilization"),
        ("accuracy", "latency"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("seed", [None, 1])
def test_further_objectives(objectives: tuple[str, ...], seed: int | None) -> None:
    made = check(tiny.problem("chain", objectives, {"lut": 9000, "dsp": 20}, seed))
    assert made is not None
    if not {"latency", "utilization"} & set(objectives):
        assert made.exact


@pytest.mark.parametrize("fps", [10_000.0, 100e6 / 384, 500_000.0])
def test_a_least_throughput(fps: float) -> None:
    made = check(tiny.problem("residual", capacity={"lut": 9000}, fps=fps))
    assert made is not None
    assert (100e6 / made.prices.interval_cycles >= fps).all()


# One interval


def drawn_chain(seed: int) -> tuple[Chain, np.ndarray]:
    """A chain of a real problem with random losses, and limits between its extremes."""
    generator = np.random.default_rng(seed)
    name = generator.choice(sorted(tiny.NETWORKS))
    found = tiny.problem(str(name), seed=seed)
    columns = list(generator.choice(LIMITED[:4], size=generator.integers(1, 4), replace=False))
    made = chain(found, int(generator.integers(0, 4)), columns)
    least = sum(s.values[:, 1:].min(axis=0) for s in made.stages)
    most = sum(s.values[:, 1:].max(axis=0) for s in made.stages)
    share = generator.uniform(0.0, 0.5, len(columns))
    return made, ints(least + share * (most - least))


def by_trying_all(made: Chain, limits: np.ndarray) -> int | None:
    """Least loss within the limits, each partial design listed."""
    partial: list[tuple[dict[str, int], np.ndarray]] = [({}, np.zeros(1 + len(limits), np.int64))]
    for stage in made.stages:
        grown: dict[
            tuple[tuple[tuple[str, int], ...], bytes], tuple[dict[str, int], np.ndarray]
        ] = {}
        for bits, values in partial:
            for option in range(len(stage.choice)):
                own = dict(zip(stage.tensors, stage.bits[option].tolist(), strict=True))
                if any(bits.get(t, b) != b for t, b in own.items()):
                    continue
                after = values + stage.values[option]
                if (after[1:] <= limits).all():
                    both = bits | own
                    grown[tuple(sorted(both.items())), after.tobytes()] = (both, after)
        partial = list(grown.values())
    return min((int(values[0]) for _, values in partial), default=None)


@pytest.mark.parametrize("seed", range(40))
def test_least_loss_is_that_of_the_integer_program(seed: int) -> None:
    made, limits = drawn_chain(seed)
    found, (other, _) = exact.least_loss(made, limits), exact.integer_program(made, limits)
    assert (found is None) == (other is None)
    if found is not None and other is not None:
        assert exact.loss_of(made, found) == exact.loss_of(made, other)
        used = sum(s.values[i, 1:] for s, i in zip(made.stages, found, strict=True))
        assert (used <= limits).all()


@pytest.mark.parametrize("seed", range(6))
def test_least_loss_is_that_of_all_designs(seed: int) -> None:
    made, limits = drawn_chain(seed)
    few = tuple(Stage(s.factor, s.tensors, s.choice[:6], s.bits[:6], s.values[:6])
                for s in made.stages)  # fmt: skip
    made = Chain(made.interval, made.columns, few, made.sizes, made.live)
    expected = by_trying_all(made, limits)
    found = exact.least_loss(made, limits)
    assert (None if found is None else exact.loss_of(made, found)) == expected


@pytest.mark.parametrize("seed", range(8))
def test_too_many_labels_go_to_the_integer_program(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, limits = drawn_chain(seed)
    found = exact.least_loss(made, limits)
    monkeypatch.setattr(exact, "MOST_LABELS", 1)
    other = exact.least_loss(made, limits)
    assert (found is None) == (other is None)
    if found is not None and other is not None:
        assert exact.loss_of(made, found) == exact.loss_of(made, other)


@pytest.mark.parametrize("seed", range(10))
def test_only_losses_of_interest_are_looked_for(seed: int) -> None:
    made, limits = drawn_chain(seed)
    found = exact.least_loss(made, limits)
    if found is None:
        return
    loss = exact.loss_of(made, found)
    again = exact.least_loss(made, limits, loss)
    assert again is not None and exact.loss_of(made, again) == loss
    assert exact.least_loss(made, limits, loss - 1) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_relaxation_is_a_lower_bound(seed: int) -> None:
    made, limits = drawn_chain(seed)
    found, relaxed = exact.least_loss(made, limits), exact.relax(made, limits)
    if found is not None:
        assert relaxed is not None
        assert relaxed[0] <= exact.loss_of(made, found) + exact.SLACK


# What cannot be


@pytest.mark.parametrize(
    ("share", "tight"),
    [({"lut": 0.9}, "lut"), ({"ff": 0.5}, "ff"), ({"lut": 0.6, "ff": 99}, "lut")],
)
def test_the_tightest_limit_is_named(share: dict[str, float], tight: str) -> None:
    """Of capacities that are a share of the least that any design needs."""
    roomy = tiny.problem("chain", capacity={"lutram": 0})
    needed = price(roomy.table, tiny.every_design(roomy)).total.min(axis=0)
    capacity = {name: int(part * needed[LIMITED.index(name)]) for name, part in share.items()}
    found = tiny.problem("chain", capacity={"lutram": 0, **capacity})
    with pytest.raises(InfeasibleError) as caught:
        front.exact_front(found)
    designs = tiny.every_design(found)
    prices = price(found.table, designs)
    column = LIMITED.index(tight)
    least = int(prices.total[:, column].min())
    most = int(found.limits(0)[column])
    assert f"needs at least {least} {tight}, {least - most} more than {most}" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("lut", [600, 700, 800, 900])
def test_a_limit_that_others_make_tight_is_named(lut: int) -> None:
    """Block memory or LUTs: each limit alone can be kept, both at once cannot."""
    found = tiny.problem("chain", capacity={"lut": lut, "bram18": 3, "dsp": 2})
    designs = tiny.every_design(found)
    prices = price(found.table, designs)
    excess = found.excess(designs, prices)
    if (excess <= 0).all(axis=1).any():
        assert len(front.exact_front(found).designs)
        return
    with pytest.raises(InfeasibleError) as caught:
        front.exact_front(found)
    told = re.search(r"needs at least (\d+) (\w+)(.*), (\d+) more than (\d+)", str(caught.value))
    assert told is not None
    need, name, others, missing, most = told.groups()
    column = LIMITED.index(name)
    assert int(need) - int(missing) == int(most) == int(found.limits(0)[column])
    assert int(missing) > 0
    if others == " within the other limits":
        rest = (np.delete(excess, column, axis=1) <= 0).all(axis=1)
        cycles = re.search(r"at (\d+) cycles", str(caught.value))
        assert cycles is not None
        at = designs[:, 0] == found.table.intervals.index(int(cycles.group(1)))
        assert int(need) == int(prices.total[rest & at, column].min())


def test_no_dominated_or_infeasible_design_is_on_a_front() -> None:
    found = tiny.problem("residual", capacity={"lut": 5000})
    designs = tiny.every_design(found)[::17]
    made = front.front_of(found, designs)
    expected = tiny.front_values(found, designs)
    assert np.array_equal(np.unique(found.minimised(made.values), axis=0), expected)
