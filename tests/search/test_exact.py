"""The proven search of one interval against every combination and against integer programming."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.integers import Ints, ints
from syq_dse.search import exact
from syq_dse.search.exact import (
    SLACK,
    TooManyLabels,
    every_label,
    integer_program,
    least_loss,
    loss_of,
    relax,
)
from syq_dse.search.stages import Chain, Stage

from .small import undominated

UNIT = 10**9
"""Losses in the tests are multiples of it: near the sizes that accuracies have."""


def joined(stages: list[Stage], columns: int, sizes: dict[str, int]) -> Chain:
    live = []
    for index in range(len(stages)):
        before = dict.fromkeys(t for s in stages[: index + 1] for t in s.tensors)
        after = {t for s in stages[index + 1 :] for t in s.tensors}
        live.append(tuple(t for t in before if t in after))
    names = tuple(f"column{i}" for i in range(columns))
    return Chain(0, names, tuple(stages), sizes, tuple(live))


@st.composite
def chains(draw: st.DrawFn, columns: int | None = None) -> Chain:
    """Two to six stages of up to five options; tensors that skip stages, or that several read.

    Not every combination of precisions need have an option.
    """
    columns = draw(st.integers(0, 3)) if columns is None else columns
    most = draw(st.sampled_from([2, 9, 1000]))
    number = st.integers(0, most)
    sizes: dict[str, int] = {}
    stages = []
    for _ in range(draw(st.integers(2, 6))):
        known = (
            draw(st.lists(st.sampled_from(sorted(sizes)), unique=True, max_size=2)) if sizes else []
        )
        if draw(st.booleans()):
            known.append(f"t{len(sizes)}")
            sizes[known[-1]] = draw(st.integers(2, 3))
        bits = st.tuples(*(st.integers(0, sizes[t] - 1) for t in known))
        options = draw(
            st.lists(st.tuples(bits, st.tuples(*[number] * (1 + columns))), min_size=1, max_size=5)
        )
        values = ints([list(v) for _, v in options]).reshape(len(options), 1 + columns)
        values[:, 0] *= UNIT
        stages.append(
            Stage(
                factor=None,  # what the search does not read
                tensors=tuple(known),
                choice=np.arange(len(options)),
                bits=ints([list(b) for b, _ in options]).reshape(len(options), len(known)),
                values=values,
            )
        )
    met = [t for t in sizes if sum(t in s.tensors for s in stages) > 1]
    return joined([reduced(s, met) for s in stages], columns, sizes)


def reduced(stage: Stage, tensors: Sequence[str]) -> Stage:
    """The stage without its other tensors; of each it would be the only reader."""
    kept = [i for i, name in enumerate(stage.tensors) if name in tensors]
    names = tuple(stage.tensors[i] for i in kept)
    return Stage(stage.factor, names, stage.choice, stage.bits[:, kept], stage.values)


def combinations(chain: Chain) -> Iterator[tuple[int, ...]]:
    """Every choice of options whose tensors agree."""
    for picks in itertools.product(*(range(len(s.choice)) for s in chain.stages)):
        bits: dict[str, int] = {}
        pairs = (
            (t, int(b))
            for s, i in zip(chain.stages, picks, strict=True)
            for t, b in zip(s.tensors, s.bits[i], strict=True)
        )
        if all(bits.setdefault(t, b) == b for t, b in pairs):
            yield picks


def used(chain: Chain, picks: tuple[int, ...]) -> Ints:
    rows = [s.values[i] for s, i in zip(chain.stages, picks, strict=True)]
    return ints(np.sum(rows, axis=0))


def every(chain: Chain) -> Ints:
    """Loss and columns of every design, shape (designs, 1 + columns)."""
    return ints([used(chain, picks) for picks in combinations(chain)]).reshape(
        -1, 1 + len(chain.columns)
    )


def drawn_limits(data: st.DataObject, chain: Chain, total: Ints) -> Ints:
    """Limits about what designs use: none, one or all of them bind."""
    most = [s.values[:, 1:].max(axis=0) for s in chain.stages]
    top = np.sum(most, axis=0)
    low = total[:, 1:].min(axis=0) if len(total) else 0 * top
    return ints(
        [
            data.draw(st.integers(max(0, int(a) - 1), int((a + b) // 2)))
            for a, b in zip(low, top, strict=True)
        ]
    )


def best(total: Ints, limits: Ints) -> int | None:
    good = total[(total[:, 1:] <= limits).all(axis=1), 0]
    return int(good.min()) if len(good) else None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_least_loss_is_that_of_every_combination(data: st.DataObject) -> None:
    chain = data.draw(chains())
    total = every(chain)
    limits = drawn_limits(data, chain, total)
    picks = least_loss(chain, limits)
    expected = best(total, limits)
    assert (picks is None) == (expected is None)
    if picks is not None:
        assert loss_of(chain, picks) == used(chain, picks)[0] == expected
        assert (used(chain, picks)[1:] <= limits).all()
        assert picks in set(combinations(chain))


def test_least_loss_with_a_tensor_that_one_stage_touches() -> None:
    """As the input where its precision is searched."""
    values = ints([[3], [2]]) * UNIT
    stage = Stage(
        factor=None,
        tensors=("input",),
        choice=ints([0, 1]),
        bits=ints([[0], [1]]),
        values=values,
    )
    chain = joined([stage, reduced(stage, ())], 0, {"input": 2})
    assert least_loss(chain, ints([])) == (1, 1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_least_loss_below_a_bound(data: st.DataObject) -> None:
    """`most` hides what is worse and nothing else; SLACK units are rounding."""
    chain = data.draw(chains())
    total = every(chain)
    limits = drawn_limits(data, chain, total)
    expected = best(total, limits)
    near = UNIT * data.draw(st.integers(-2, 2)) + data.draw(st.integers(-1, 1))
    most = (0 if expected is None else expected) + near
    picks = least_loss(chain, limits, most)
    if expected is None or expected > most + SLACK:
        assert picks is None
    elif expected <= most:
        assert picks is not None
        assert loss_of(chain, picks) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_integer_program_finds_the_same_loss(data: st.DataObject) -> None:
    chain = data.draw(chains())
    total = every(chain)
    limits = drawn_limits(data, chain, total)
    picks, proven = integer_program(chain, limits)
    assert proven
    assert (None if picks is None else used(chain, picks)[0]) == best(total, limits)
    assert picks is None or (used(chain, picks)[1:] <= limits).all()


def test_too_many_labels_are_left_to_the_integer_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    program = exact.integer_program
    monkeypatch.setattr(exact, "MOST_LABELS", 0)
    monkeypatch.setattr(exact, "integer_program", lambda *a: asked.append(1) or program(*a))

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        chain = data.draw(chains())
        total = every(chain)
        limits = drawn_limits(data, chain, total)
        expected = best(total, limits)
        most = data.draw(st.sampled_from([None, expected, (expected or 0) - UNIT]))
        picks = least_loss(chain, limits, most)
        if most is None or (expected is not None and expected <= most):
            assert (None if picks is None else loss_of(chain, picks)) == expected
        else:
            assert picks is None

    look()
    assert len(asked) > 5


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_relaxation_is_never_above_the_least_loss(data: st.DataObject) -> None:
    chain = data.draw(chains())
    total = every(chain)
    limits = drawn_limits(data, chain, total)
    expected = best(total, limits)
    relaxed = relax(chain, limits)
    if expected is None:
        return  # it may or may not see that
    assert relaxed is not None
    bound, prices = relaxed
    assert bound <= expected + SLACK
    assert prices.shape == limits.shape
    assert (prices >= 0).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_relaxation_is_the_least_loss_where_no_limit_binds(data: st.DataObject) -> None:
    chain = data.draw(chains())
    total = every(chain)
    loose = np.sum([s.values[:, 1:].max(axis=0) for s in chain.stages], axis=0)
    relaxed = relax(chain, ints(loose))
    assert (relaxed is None) == (len(total) == 0)
    if relaxed is not None:
        assert relaxed[0] == pytest.approx(total[:, 0].min(), abs=SLACK)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_every_label_is_the_front_of_all_columns(data: st.DataObject) -> None:
    chain = data.draw(st.integers(1, 3).flatmap(chains))
    total = every(chain)
    limits = drawn_limits(data, chain, total)
    good = total[(total[:, 1:] <= limits).all(axis=1)]
    found = every_label(chain, limits, chain.columns)
    rows = [tuple(map(int, used(chain, picks))) for picks in found]
    assert set(rows) == (undominated(good) if len(good) else set())
    assert len(set(rows)) == len(rows)
    assert set(found) <= set(combinations(chain))


def test_every_label_gives_up_on_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen designs, no two alike: four bits of a number against its complement."""
    stages = [
        Stage(
            factor=None,
            tensors=(),
            choice=ints([0, 1]),
            bits=ints([[], []]),
            values=ints([[0, 2**i], [2**i, 0]]),
        )
        for i in range(4)
    ]
    chain = joined(stages, 1, {})
    limits = ints([100])
    assert len(every_label(chain, limits, chain.columns)) == 16
    monkeypatch.setattr(exact, "MOST_LABELS", 15)
    with pytest.raises(TooManyLabels):
        every_label(chain, limits, chain.columns)


def test_a_program_without_time_says_that_nothing_is_proven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "MOST_LABELS", 0)
    monkeypatch.setattr(exact, "integer_program", lambda *_: (None, False))

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        chain = data.draw(chains())
        total = every(chain)
        limits = drawn_limits(data, chain, total)
        doubts: list[bool] = []
        picks = least_loss(chain, limits, None, lambda: doubts.append(True))
        if picks is None:
            assert doubts or best(total, limits) is None
        else:
            assert (used(chain, picks)[1:] <= limits).all()

    look()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_a_shorter_distance_finds_the_same_loss_where_labels_are_few(data: st.DataObject) -> None:
    chain = data.draw(chains())
    total = every(chain)
    limits = drawn_limits(data, chain, total)
    few = data.draw(st.integers(1, 6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "MOST_LABELS", few)
        picks = least_loss(chain, limits)
    assert (None if picks is None else used(chain, picks)[0]) == best(total, limits)
