"""One interval as a chain of stages: what may be left out, and what may not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from syq_dse.cost.fpga import COLUMNS
from syq_dse.cost.table import price
from syq_dse.search.front import design_of
from syq_dse.search.stages import chain, cycles_at, fastest, groups, narrow, nondominated

from .small import LIMITED, NETWORKS, listing, problem, random_losses, table, undominated


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    nps.arrays(
        np.int64,
        st.tuples(st.integers(1, 20), st.integers(1, 5)),
        elements=st.one_of(st.integers(0, 3), st.integers(0, 10**13)),
    )
)
def test_nondominated_keeps_the_front_once(values: np.ndarray) -> None:
    kept = values[nondominated(values)]
    assert set(map(tuple, kept.tolist())) == undominated(values)
    assert len(kept) == len(undominated(values))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    nps.arrays(
        np.int64, st.tuples(st.integers(1, 20), st.integers(0, 3)), elements=st.integers(0, 2)
    )
)
def test_groups_are_the_equal_rows(keys: np.ndarray) -> None:
    found = groups(keys)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(keys)))
    for group in found:
        assert (keys[group] == keys[group[0]]).all()
    assert len({tuple(keys[group[0]]) for group in found}) == len(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_chain_adds_up_to_the_price_of_its_designs(name: str) -> None:
    """Every option of every stage, in designs drawn at random: loss and columns as priced."""
    asked = problem(table(name))
    draw = np.random.default_rng(4)
    for t in range(len(asked.table.intervals)):
        made = chain(asked, t, COLUMNS)
        tried = 0
        while tried < 40:
            picks = [int(draw.integers(len(s.choice))) for s in made.stages]
            bits: dict[str, int] = {}
            pairs = [
                (tensor, int(b))
                for s, i in zip(made.stages, picks, strict=True)
                for tensor, b in zip(s.tensors, s.bits[i], strict=True)
            ]
            if any(bits.setdefault(tensor, b) != b for tensor, b in pairs):
                continue
            tried += 1
            design = np.array([design_of(asked, made, picks)])
            total = np.sum([s.values[i] for s, i in zip(made.stages, picks, strict=True)], axis=0)
            assert total[0] == asked.loss(design)[0]
            np.testing.assert_array_equal(total[1:], price(asked.table, design).total[0])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_no_option_that_matters_is_left_out(data: st.DataObject) -> None:
    """Of loss and all columns, the front of the chain's designs is that of all designs."""
    priced = table("plain")
    asked = problem(priced, lost=data.draw(random_losses(priced)))
    t = data.draw(st.integers(0, len(priced.intervals) - 1))
    columns = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True))
    within = data.draw(st.sampled_from([None, *cycles_at(asked, t).tolist()]))
    made = chain(asked, t, columns, within)
    if data.draw(st.booleans()):
        made = narrow(chain(asked, t, [*COLUMNS], within), columns)
    rows = []
    for picks in itertools.product(*(range(len(s.choice)) for s in made.stages)):
        bits: dict[str, int] = {}
        pairs = (
            (tensor, int(b))
            for s, i in zip(made.stages, picks, strict=True)
            for tensor, b in zip(s.tensors, s.bits[i], strict=True)
        )
        if all(bits.setdefault(tensor, b) == b for tensor, b in pairs):
            rows.append(np.sum([s.values[i] for s, i in zip(made.stages, picks, strict=True)], 0))
    designs, prices = listing(priced)
    here = designs[:, 0] == t
    if within is not None:
        here &= prices.interval_cycles <= within
    places = [COLUMNS.index(c) for c in columns]
    every = np.column_stack([asked.loss(designs[here]), prices.total[here][:, places]])
    assert undominated(np.array(rows)) == undominated(every)


@pytest.mark.parametrize("name", NETWORKS)
def test_fastest_and_the_cycles_at_an_interval(name: str) -> None:
    asked = problem(table(name))
    designs, prices = listing(asked.table)
    for t in range(len(asked.table.intervals)):
        taken = set(prices.interval_cycles[designs[:, 0] == t].tolist())
        assert fastest(asked, t) == min(taken)
        assert taken <= set(cycles_at(asked, t).tolist())


def test_a_chain_of_limits_has_the_limited_columns() -> None:
    made = chain(problem(table("residual")), 1, LIMITED)
    assert made.columns == LIMITED
    assert made.interval == 1
    assert [s.factor.name for s in made.stages] == ["a", "b", "add", "c", "mean", "last"]
    assert made.live[-1] == ()
    assert all(len(s.values) == len(s.bits) == len(s.choice) for s in made.stages)
