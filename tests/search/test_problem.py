"""Limits, values and losses of designs against the cost document and sums by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.document import document
from syq_dse.cost.estimate import estimate
from syq_dse.cost.table import price
from syq_dse.errors import InputError
from syq_dse.search.problem import LINEAR, OBJECTIVES, Goals, feasible

from .small import (
    LIMITED,
    NETWORKS,
    fits,
    from_prior,
    limits_of,
    listing,
    lost,
    problem,
    random_losses,
    table,
    with_capacity,
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.integers(0, 2**20),
    st.integers(1, 100),
    st.integers(400, 4000),
    st.integers(0, 9),
)
def test_what_is_feasible_fits_in_the_document(
    name: str, seed: int, percent: int, lut: int, few: int
) -> None:
    """The document divides used by offered, the search compares integers."""
    priced = with_capacity(table(name), lut=lut, dsp=few, bram18=few)
    asked = problem(priced, limit=percent / 100)
    designs = np.random.default_rng(seed).integers(0, priced.sizes, (12, len(priced.sizes)))
    prices = price(priced, designs)
    good = feasible(asked.excess(designs, prices))
    np.testing.assert_array_equal(good, fits(asked, designs, prices))
    for design, fine in zip(designs, good, strict=True):
        interval = priced.intervals[int(design[0])]
        chosen, folding = priced.scheme_of(design), priced.foldings_of(design)
        cost = estimate(priced.pricing, priced.network, chosen, interval, folding)
        shown = document(priced.pricing, name, cost, interval, 100.0, percent / 100)
        assert shown["fits"] == fine


@pytest.mark.parametrize("limit", [1.0, 0.8, 0.29, 0.07, 0.35])
def test_limits_are_shares_rounded_down(limit: float) -> None:
    """0.29 * 100 is 28.999... in floating point, and is 29."""
    asked = problem(with_capacity(table("plain"), lut=100, ff=7, dsp=100, bram18=3), limit=limit)
    for t in range(len(asked.table.intervals)):
        np.testing.assert_array_equal(asked.limits(t), limits_of(asked)[t])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_loss_is_a_sum_over_choices_and_precisions(data: st.DataObject) -> None:
    priced = table(data.draw(st.sampled_from(sorted(NETWORKS))))
    asked = problem(priced, lost=data.draw(random_losses(priced)))
    designs = listing(priced)[0][:: len(listing(priced)[0]) // 50]
    np.testing.assert_array_equal(asked.loss(designs), lost(asked, designs))


def test_excess_is_a_share_of_the_limit() -> None:
    asked = problem(with_capacity(table("plain"), lut=1000, bram18=0))
    designs = listing(asked.table)[0][::61]
    prices = price(asked.table, designs)
    over = asked.excess(designs, prices)
    assert over.shape == (len(designs), len(LIMITED))
    np.testing.assert_allclose(over[:, 0], prices.total[:, 0] / 800 - 1)
    np.testing.assert_array_equal(over[:, LIMITED.index("bram18")], prices.total[:, 3])  # of 0


def test_minimised_turns_accuracy_and_fps_around() -> None:
    asked = problem(table("plain"), ("accuracy", "fps", "lut", "latency"))
    assert asked.minimised(np.array([[0.5, 10.0, 3.0, 2.0]])).tolist() == [[-0.5, -10.0, 3.0, 2.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objectives": ("accuracy",)},
            "two to four different objectives are needed, got accuracy",
        ),
        (
            {"objectives": ("fps", "fps")},
            "two to four different objectives are needed, got fps, fps",
        ),
        (
            {"objectives": ("accuracy", "fps", "lut", "dsp", "ff")},
            "two to four different objectives are needed, got accuracy, fps, lut, dsp, ff",
        ),
        (
            {"objectives": ("acuracy", "fps")},
            f"unknown objective 'acuracy'; known: {', '.join(OBJECTIVES)} "
            "(did you mean 'accuracy'?)",
        ),
        ({"limit": 0.0}, "limit must be above 0 and at most 1, got 0.0"),
        ({"limit": 1.5}, "limit must be above 0 and at most 1, got 1.5"),
        ({"limit": float("nan")}, "limit must be above 0 and at most 1, got nan"),
        ({"clock_mhz": 0.5}, "clock_mhz must be 1 to 2000, got 0.5"),
        ({"fps": 0.0}, "fps must be positive, got 0.0"),
        ({"fps": float("nan")}, "fps must be positive, got nan"),
    ],
)
def test_message_of_wrong_goals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(Goals(clock_mhz=100.0), **changes)
    assert str(caught.value) == message


def test_every_objective_has_a_value() -> None:
    priced = table("plain")
    designs = listing(priced)[0][:3]
    prices = price(priced, designs)
    with pytest.raises(InputError, match="objective 'area': bench has none; it has accuracy, fps"):
        problem(priced, ("accuracy", "area"), from_prior(priced))
    for name in set(OBJECTIVES) - {"area"}:
        other = "lut" if name != "lut" else "fps"
        values = problem(priced, (name, other), from_prior(priced)).values(designs, prices)
        assert values.shape == (3, 2)
        assert np.isfinite(values).all()
    assert set(LINEAR) < set(OBJECTIVES)
