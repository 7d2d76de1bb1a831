"""All samplers on one problem: what they reach is the hypervolume of what they proposed."""

from __future__ import annotations

from pathlib import Path

import moocore
import numpy as np
import pandas as pd
import pytest

from syq_dse import records
from syq_dse.cost.table import price
from syq_dse.report import sampler_plot
from syq_dse.search import comparison, samplers
from syq_dse.search.comparison import compare, in_the_end
from syq_dse.search.front import exact_front, reference_point
from syq_dse.search.problem import Problem, feasible

from .small import problem, table, with_capacity


@pytest.fixture
def asked() -> Problem:
    return problem(with_capacity(table("residual"), lut=1200, dsp=6, bram18=6), ("accuracy", "ff"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "LIMIT_S", 0.3)
    monkeypatch.setattr(samplers, "FEW", 2)


@pytest.mark.parametrize("seeded", [False, True])
def test_shares_are_those_of_the_designs(
    asked: Problem, seeded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "LIMIT_S", float("inf"))
    quick = {name: samplers.SAMPLERS[name] for name in ("nsga2", "random")}
    monkeypatch.setattr(samplers, "SAMPLERS", quick)
    front = exact_front(asked)
    found = compare(asked, front, 120, 2, seeded)
    assert {one.sampler for one in found} == set(quick)
    assert {one.seed for one in found} == {0, 1}
    reference = reference_point(asked, front)
    whole = moocore.hypervolume(asked.minimised(front.values), ref=reference)
    for name in ("nsga2", "random"):
        start = front.designs if seeded else front.designs[:0]
        steps = [one for one in found if (one.sampler, one.seed) == (name, 1)]
        designs = np.concatenate(list(samplers.generations(asked, name, 1, 120, start)))
        assert [one.designs for one in steps] == [50, 100, 120]
        for one in steps:
            own = designs[: one.designs]
            prices = price(asked.table, own)
            keep = feasible(asked.excess(own, prices))
            values = asked.minimised(asked.values(own, prices))[keep]
            share = moocore.hypervolume(values, ref=reference) / whole if len(values) else 0.0
            assert one.share == pytest.approx(share)
            assert 0 <= one.share <= 1 + 1e-12
    assert all(one.seeded == seeded for one in found)


def test_the_end_is_the_last_generation_of_each_seed(asked: Problem) -> None:
    found = compare(asked, exact_front(asked), 120, 3, False)
    assert {one.sampler for one in found} == set(samplers.SAMPLERS)
    for line in in_the_end(found):
        own = [one for one in found if one.sampler == line.sampler]
        ends = [max(o.designs for o in own if o.seed == seed) for seed in range(3)]
        shares = [
            one.share for seed, end in enumerate(ends) for one in own
            if (one.seed, one.designs) == (seed, end)
        ]  # fmt: skip
        assert (line.least, line.share, line.most) == (
            min(shares), pytest.approx(np.median(shares)), max(shares),
        )  # fmt: skip
        assert line.seeds == 3


def test_the_figure_is_drawn(asked: Problem, tmp_path: Path) -> None:
    found = compare(asked, exact_front(asked), 100, 2, False)
    pd.DataFrame(records.plain(found)).to_csv(tmp_path / "samplers.csv", index=False)
    for path in sampler_plot.draw(tmp_path):
        assert path.stat().st_size > 1000
    text = (tmp_path / "samplers.svg").read_text()
    assert "<svg" in text
