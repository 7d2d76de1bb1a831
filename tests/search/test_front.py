"""The exact front against a listing of every design, and what is said where there is none."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.fpga import COLUMNS, pricing
from syq_dse.cost.integers import ints
from syq_dse.cost.table import price
from syq_dse.errors import InfeasibleError
from syq_dse.network import Conv, Dense, Flatten
from syq_dse.search import exact, run, space
from syq_dse.search.front import (
    Front,
    exact_front,
    front_of,
    hypervolume,
    reference_point,
)
from syq_dse.search.problem import OBJECTIVES, Problem, price_all
from syq_dse.search.space import Space
from syq_dse.search.study import Study

from .small import (
    LAST,
    LIMITED,
    NETWORKS,
    SPACE,
    board,
    fits,
    from_prior,
    goals_of,
    join,
    limits_of,
    listing,
    problem,
    random_costs,
    random_losses,
    table,
    true_front,
    undominated,
    with_capacity,
)

SPARE = 10**6  # more of anything than the small networks can use

ASKED = [
    ("accuracy", "fps"),
    ("accuracy", "lut"),
    ("lut", "fps"),
    ("accuracy", "fps", "lut"),
    ("accuracy", "fps", "utilization"),
    ("accuracy", "energy", "dsp"),
    ("fps", "bram", "ff", "accuracy"),
    ("utilization", "energy"),
    ("accuracy", "latency"),
    ("fps", "latency", "lut"),
]


def found_of(asked: Problem, found: Front) -> set[tuple[int, ...]]:
    return {tuple(map(int, row)) for row in goals_of(asked, found.designs, found.prices)}


def share_of(one: set[tuple[int, ...]], whole: set[tuple[int, ...]]) -> float:
    """Hypervolume of one front as a share of another's, both scaled to a box of side 1."""
    base = np.array(sorted(whole), float)
    low, extent = base.min(axis=0), np.maximum(np.ptp(base, axis=0), 1)
    scaled = [(np.array(sorted(rows), float) - low) / extent for rows in (one, whole)]
    mine, true = (moocore.hypervolume(rows, ref=np.full(base.shape[1], 1.1)) for rows in scaled)
    return float(mine / true)


def check(asked: Problem) -> bool:
    """Compare with the listing; whether the front says that it is exact."""
    true = true_front(asked)
    if not true:
        with pytest.raises(InfeasibleError):
            exact_front(asked)
        return True
    found = exact_front(asked)
    assert fits(asked, found.designs, found.prices).all()
    mine = found_of(asked, found)
    assert len(found.designs) == len(mine)  # each value once
    assert undominated(np.array(sorted(mine))) == mine
    if found.exact:
        assert mine == true, asked.goals
        assert share_of(mine, true) == pytest.approx(1, abs=1e-9)
    else:  # a front that misses points must say so
        assert share_of(mine, true) <= 1 + 1e-9
    return found.exact


# Against the listing


@pytest.mark.parametrize("objectives", ASKED, ids=" ".join)
@pytest.mark.parametrize("name", NETWORKS)
def test_front_is_that_of_the_listing(name: str, objectives: tuple[str, ...]) -> None:
    assert check(problem(table(name), objectives)) or "latency" in objectives


@pytest.mark.parametrize("name", ["plain", "deep", "signed"])
def test_latency_where_no_paths_meet(name: str) -> None:
    """It is a sum over layers there, as LUTs are."""
    asked = problem(table(name), ("accuracy", "latency"))
    assert share_of(found_of(asked, exact_front(asked)), true_front(asked)) > 0.9


@st.composite
def tight_problems(draw: st.DrawFn) -> Problem:
    """Limits drawn between the least and the most that designs use: several bind at once."""
    name = draw(st.sampled_from(sorted(NETWORKS)))
    priced = table(name)
    total = listing(priced)[1].total
    sizes = {}
    for column in ("lut", "ff", "dsp", "bram18", "lutram"):
        used = total[:, COLUMNS.index(column)]
        step = draw(st.integers(0, 10))
        low, high = int(used.min()), int(np.quantile(used, 0.6))
        sizes[column] = max(1, low + (high - low) * step // 8)
    sizes["lut"] = max(sizes["lut"], sizes["lutram"])
    priced = with_capacity(priced, **sizes)
    lost = draw(st.one_of(st.just(from_prior(priced)), random_losses(priced)))
    objectives = draw(st.sampled_from(ASKED))
    fps = draw(st.sampled_from([None, None, 1e8 / priced.intervals[1], 1e8 / 200]))
    return problem(priced, objectives, lost, limit=draw(st.sampled_from([1.0, 0.95])), fps=fps)


def test_front_where_several_limits_bind() -> None:
    cut = dict.fromkeys(("lut", "dsp", "bram18"), 0)
    several = none = 0

    @settings(max_examples=36, deadline=None, derandomize=True, database=None)
    @given(tight_problems())
    def look(asked: Problem) -> None:
        nonlocal several, none
        check(asked)
        designs, prices = listing(asked.table)
        over = prices.total[:, : len(LIMITED)] > limits_of(asked)[designs[:, 0]]
        for name in cut:
            cut[name] += bool(over[:, COLUMNS.index(name)].any())
        several += bool(over.any(axis=0).sum() >= 3 and not over.any(axis=1).all())
        none += bool(over.any(axis=1).all())

    look()
    assert min(cut.values()) > 10  # the limits do cut designs away, several at once,
    assert several > 10
    assert none > 3  # and all of them in a few


@settings(max_examples=24, deadline=None, derandomize=True)
@given(st.data())
def test_front_of_any_table(data: st.DataObject) -> None:
    """Costs and cycles drawn at random: nothing rests on how hardware happens to be priced."""
    name = data.draw(st.sampled_from(sorted(NETWORKS)))
    size = data.draw(st.sampled_from([3, 100, 10**5]))
    priced = random_costs(table(name), data.draw(st.integers(0, 2**20)), size)
    stages = len(priced.factors)
    limits = {
        column: max(1, data.draw(st.integers(size * stages // 5, size * stages)))
        for column in ("lut", "ff", "dsp", "bram18", "uram", "lutram")
    }
    limits["lutram"] = min(limits["lutram"], limits["lut"])
    lost = data.draw(random_losses(priced))
    objectives = data.draw(st.sampled_from(ASKED))
    check(problem(with_capacity(priced, **limits), objectives, lost, limit=1.0))


@pytest.mark.parametrize(
    "objectives",
    [
        ("accuracy", "fps", "lut"),
        pytest.param(
            ("accuracy", "utilization"),
        ),
    ],
    ids=" ".join,
)
def test_a_front_too_large_to_list_says_so(
    objectives: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = problem(table("deep"), objectives)
    assert exact_front(asked).exact
    for labels in (80, 40, 20, 10, 5):
        monkeypatch.setattr(exact, "MOST_LABELS", labels)
        found = exact_front(asked)
        if not found.exact:
            break
    assert not found.exact
    assert undominated(np.array(sorted(found_of(asked, found)))) == found_of(asked, found)
    assert share_of(found_of(asked, found), true_front(asked)) > 0.6  # near, at LEVELS bounds


def test_accuracy_and_fps_stay_exact_with_the_integer_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for lut in (1600, 2000, 2400, 2800, 3200):  # the least that leaves several designs
        asked = problem(with_capacity(table("residual"), lut=lut, bram18=4, dsp=2), limit=1.0)
        expected = true_front(asked)
        if len(expected) > 1:
            break
    assert len(expected) > 1
    monkeypatch.setattr(exact, "MOST_LABELS", 0)
    assert found_of(asked, exact_front(asked)) == expected


@pytest.mark.parametrize("worse", [0, -1])
def test_of_equal_choices_one_that_keeps_every_limit_is_taken(worse: int) -> None:
    """Two differ in DSPs alone; without the one of many, no design could break that limit."""
    priced = random_costs(table("plain"), 0, 1)  # every cost is nothing
    factor = next(f for f in priced.factors if f.name == "b")
    factor.rows[:, worse, ..., COLUMNS.index("dsp")] = 50
    nothing = replace(
        from_prior(priced),
        engines={name: np.zeros(len(c), np.int64) for name, c in priced.choices.items()},
        tensors={name: np.zeros(len(b), np.int64) for name, b in priced.bits.items()},
    )
    for objectives in (("accuracy", "fps"), ("accuracy", "energy")):
        assert check(problem(with_capacity(priced, dsp=20), objectives, nothing))
        assert true_front(problem(with_capacity(priced, dsp=20), objectives, nothing))


# What the grid of intervals hides


def test_a_stream_slower_than_every_engine_decides() -> None:
    """28 pixels a word at most: a dense layer on a flattened image waits for 28 words."""
    net = join("mlp", (1, 28, 28), Flatten(name="flat"), Dense(name="hidden", c_out=4), LAST)
    searched = Space(weights=("binary",), granularity=("layer",), bits=(1,), intervals=6)
    priced = space.build(searched, net, pricing(board(lut=SPARE, ff=SPARE, bram18=SPARE)))
    assert min(priced.intervals) < 28
    asked = problem(priced)
    assert exact_front(asked).prices.interval_cycles.min() == 28
    assert check(asked)
    with pytest.raises(InfeasibleError, match=r"28 cycles \(3571428\.6 fps\)"):
        exact_front(problem(priced, fps=1e8 / 27))
    assert check(problem(priced, fps=1e8 / 28))


@pytest.mark.parametrize("cycles", [11, 163, 16_000])
def test_a_point_is_found_again_at_its_own_frame_rate(cycles: int) -> None:
    """1e8 / (1e8 / 11) is less than 11 in floating point."""
    net = join("one", (1, 1, cycles), Conv(name="a", c_out=1, k=1), Flatten(name="flat"), LAST)
    searched = Space(weights=("binary",), granularity=("layer",), bits=(1,), intervals=1)
    priced = space.build(searched, net, pricing(board(bram18=SPARE, lut=SPARE, ff=SPARE)))
    least = int(exact_front(problem(priced)).prices.interval_cycles[0])
    assert least == cycles
    assert len(exact_front(problem(priced, fps=1e8 / least)).designs)


# Large enough to be real


@pytest.mark.parametrize(
    ("objectives", "searched"),
    [
        (("accuracy", "fps"), Space()),
        (("accuracy", "fps", "lut"), Space(weights=("binary", "int4"), bits=(1, 4), intervals=12)),
    ],
)
def test_no_random_design_dominates_a_point(objectives: tuple[str, ...], searched: Space) -> None:
    """20,000 designs, half of them drawn beside the points: one or two choices changed."""
    study = Study(network="fmnist-vgg", target="ulx3s-85f", objectives=objectives, space=searched)
    asked = run.problem_of(run.resolved(study))
    found = exact_front(asked)
    assert found.exact
    assert len(found.designs) >= 10
    draw = np.random.default_rng(7)
    sizes = np.array(asked.table.sizes)
    far = draw.integers(0, sizes, (10_000, len(sizes)))
    near = found.designs[draw.integers(0, len(found.designs), 10_000)]
    for _ in range(2):
        column = draw.integers(0, len(sizes), len(near))
        near[np.arange(len(near)), column] = draw.integers(0, sizes[column])
    designs = np.concatenate([far, near])
    prices = price(asked.table, designs)
    good = fits(asked, designs, prices)
    assert good.sum() > 500
    tried = goals_of(asked, designs, prices)[good]
    for point in goals_of(asked, found.designs, found.prices):
        beats = (tried <= point).all(axis=1) & (tried < point).any(axis=1)
        assert not beats.any()


# front_of, hypervolume, reference point


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**20), st.sampled_from(ASKED), st.integers(1, 300))
def test_front_of_keeps_the_feasible_and_undominated(
    seed: int, objectives: tuple[str, ...], count: int
) -> None:
    priced = with_capacity(table("residual"), lut=3200, dsp=8, bram18=8)
    asked = problem(priced, objectives, limit=1.0)
    designs = np.random.default_rng(seed).integers(0, priced.sizes, (count, len(priced.sizes)))
    found = front_of(asked, designs)
    _, prices = price_all(asked, designs)
    good = fits(asked, designs, prices)
    expected = undominated(goals_of(asked, designs, prices)[good]) if good.any() else set()
    assert found_of(asked, found) == expected
    assert len(found.designs) == len(expected)
    assert not found.exact
    np.testing.assert_array_equal(found.prices.total, price(priced, found.designs).total)
    first = asked.minimised(found.values)[:, 0]
    assert (np.diff(first) >= 0).all()  # the best of the first objective comes first


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(2, 4), st.integers(0, 2**20), st.integers(0, 5))
def test_hypervolume_is_the_union_of_boxes(dimensions: int, seed: int, count: int) -> None:
    """Inclusion and exclusion over all subsets of points."""
    objectives = ("lut", "ff", "dsp", "bram")[:dimensions]
    asked = problem(table("plain"), objectives)
    values = np.random.default_rng(seed).integers(0, 12, (count, dimensions)).astype(float)
    reference = np.full(dimensions, 10.0)
    expected = 0.0
    for size in range(1, count + 1):
        for some in itertools.combinations(values, size):
            sides = np.maximum(0, reference - np.max(some, axis=0))
            expected += (-1) ** (size + 1) * sides.prod()
    made = Front(
        ints([]), price(asked.table, ints([]).reshape(0, len(asked.table.sizes))), values, False
    )
    assert hypervolume(asked, made, reference) == pytest.approx(expected, abs=1e-9)


def test_hypervolume_counts_accuracy_and_fps_upwards() -> None:
    asked = problem(table("plain"))
    values = np.array([[0.9, 100.0], [0.5, 400.0]])
    made = Front(
        ints([]), price(asked.table, ints([]).reshape(0, len(asked.table.sizes))), values, False
    )
    boxes = (0.9 - 0.4) * (100 - 50) + (0.5 - 0.4) * (400 - 100)
    assert hypervolume(asked, made, np.array([-0.4, -50.0])) == pytest.approx(boxes)


def test_reference_point_is_a_tenth_of_the_extent_worse() -> None:
    asked = problem(table("plain"))
    values = np.array([[0.9, 100.0], [0.5, 400.0]])
    made = Front(
        ints([]), price(asked.table, ints([]).reshape(0, len(asked.table.sizes))), values, False
    )
    assert reference_point(asked, made) == pytest.approx([-0.5 + 0.04, -100 + 30])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_point_lies_inside_the_reference_point(name: str) -> None:
    """Also where a front is one point: each adds to the hypervolume."""
    asked = problem(table(name))
    found = exact_front(asked)
    reference = reference_point(asked, found)
    assert (asked.minimised(found.values) < reference).all()
    whole = hypervolume(asked, found, reference)
    for i in range(len(found.values)):
        rest = np.delete(found.values, i, axis=0)
        assert hypervolume(asked, replace(found, values=rest), reference) < whole


# Why nothing fits

NEEDS = re.compile(
    r"^(?P<net>\w+): needs at least (?P<need>\d+) (?P<name>\w+)(?P<others> [a-z0-9%, ]+)?, "
    r"(?P<missing>\d+) more than (?P<most>\d+), [\d.]+ of bench's "
    r"\(at (?P<cycles>\d+) cycles an image\); "
    r"take fewer bits, a higher --limit or a larger part$"
)


def told_truly(asked: Problem, message: str) -> str:
    """Check a message against all designs; which kind of message it is."""
    told = NEEDS.match(message)
    assert told, message
    designs, prices = listing(asked.table)
    t, column = asked.table.intervals.index(int(told["cycles"])), LIMITED.index(told["name"])
    need, most = int(told["need"]), int(told["most"])
    limits = limits_of(asked)
    assert most == limits[t, column]
    assert int(told["missing"]) == need - most > 0
    least = np.array([prices.total[designs[:, 0] == i].min(axis=0) for i in range(len(limits))])
    least = least[:, : len(LIMITED)]
    over = np.where(least > 0, (least - limits) / np.maximum(limits, 1), -1.0)
    if not told["others"]:  # alone it is missed by most, and at other intervals by no less
        assert need == least[t, column]
        assert over[t, column] == over[t].max() == over.max(axis=1).min()
    else:
        assert over.max(axis=1).min() <= 0
    if told["others"] == " within the other limits":
        rest = np.delete(prices.total[:, : len(LIMITED)] - limits[t], column, axis=1)
        good = (rest <= 0).all(axis=1) & (designs[:, 0] == t)
        assert need == prices.total[good, column].min()
    return told["others"] or "alone"


@st.composite
def hopeless(draw: st.DrawFn) -> Problem:
    """Capacities at or below the least that designs use, of one resource or of several."""
    priced = table(draw(st.sampled_from(sorted(NETWORKS))))
    total = listing(priced)[1].total
    sizes = {"lut": SPARE, "ff": SPARE, "dsp": SPARE, "bram18": SPARE, "lutram": SPARE}
    alone = draw(st.booleans())  # below the least, or a little above it
    for column in draw(st.sets(st.sampled_from(sorted(sizes)), min_size=1 if alone else 3)):
        used = total[:, COLUMNS.index(column)]
        low, high = int(used.min()), int(np.quantile(used, 0.02))
        sizes[column] = draw(st.integers(low // 2, low) if alone else st.integers(low, high))
    sizes["ff"] = max(sizes["ff"], 1)
    return problem(with_capacity(priced, **sizes), limit=draw(st.sampled_from([1.0, 0.9])))


def test_the_tightest_resource_and_the_missing_amount() -> None:
    kinds: dict[str, int] = {}

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(hopeless())
    def look(asked: Problem) -> None:
        if true_front(asked):
            return
        with pytest.raises(InfeasibleError) as caught:
            exact_front(asked)
        kind = told_truly(asked, str(caught.value))
        kinds[kind] = kinds.get(kind, 0) + 1

    look()
    assert min(kinds["alone"], kinds[" within the other limits"]) >= 2, kinds


def test_a_board_with_tiny_block_ram() -> None:
    net = join(
        "wide", (8, 4, 4), Conv(name="a", c_out=64, k=3), Conv(name="b", c_out=64, k=2), LAST
    )
    tiny = board(lut=900, ff=41600, dsp=0, bram18=1, lutram=0, bandwidth_gb_s=0)
    priced = space.build(SPACE, net, pricing(tiny))
    with pytest.raises(
        InfeasibleError, match=r"^wide: needs at least \d+ bram18, \d+ more than 0, "
    ):
        exact_front(problem(priced))


def test_a_frame_rate_out_of_reach() -> None:
    asked = problem(table("plain"), fps=1e8 / 35)
    with pytest.raises(InfeasibleError) as caught:
        exact_front(asked)
    assert str(caught.value) == (
        "plain: 2.85714e+06 fps need a shorter interval than the space's least, "
        "36 cycles (2777777.8 fps)"
    )


def test_progress_names_every_interval() -> None:
    calls: list[tuple[int, int, str]] = []
    asked = problem(table("plain"))
    exact_front(asked, lambda done, count, what: calls.append((done, count, what)))
    assert calls == [
        (i, len(asked.table.intervals), f"{cycles} cycles")
        for i, cycles in enumerate(asked.table.intervals)
    ]


def test_the_oracle_sees_every_objective() -> None:
    assert {name for names in ASKED for name in names} == set(OBJECTIVES) - {"uram", "area"}


def test_values_are_those_of_the_oracle() -> None:
    """goals_of counts by hand what Problem.values says in the user's units."""
    for names in ASKED:
        asked = problem(table("residual"), names)
        designs = listing(asked.table)[0][::7]
        prices = price(asked.table, designs)
        mine, shown = goals_of(asked, designs, prices), asked.values(designs, prices)
        for i, name in enumerate(names):
            match name:
                case "accuracy":
                    expected = asked.losses.base - mine[:, i] * 1e-12
                case "fps":
                    expected = 1e8 / mine[:, i]
                case "latency":
                    expected = mine[:, i] / 100
                case "energy":
                    expected = mine[:, i] / 1e6
                case "utilization":
                    expected = mine[:, i] / 1e9
                case _:
                    expected = mine[:, i].astype(float)
            np.testing.assert_allclose(shown[:, i], expected, rtol=1e-12, atol=6e-10)
