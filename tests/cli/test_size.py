"""Large networks and fronts, at the size that a test has time for; benchmarks/size.py has more."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.size import MOST_PAGE_MB, deep, wide

from .workbench import SMALL_SPACE, Run


def test_a_hundred_layers_are_explored_drawn_and_shown(cli: Run, workplace: Path) -> None:
    (workplace / "deep.toml").write_text(deep(100))
    explore = ("explore", "--network", "deep.toml", "--target", "u250", *SMALL_SPACE)
    done = cli(*explore, "--out", "run")
    assert (done.code, done.err) == (0, "")
    front = json.loads(Path("run/front.json").read_text())
    assert len(front["points"]) >= 1
    assert Path("run/report.html").stat().st_size < MOST_PAGE_MB * 1e6
    done = cli("plot", "run", "--figure", "all", "-o", "plots")
    assert (done.code, done.err) == (0, "")


def test_a_front_of_twelve_thousand_points_is_drawn_shown_and_compared(cli: Run, ran: Path) -> None:
    wide(ran, 12_000)
    for arguments in (
        ("plot", "runs/tiny"),
        ("report", "runs/tiny"),
        ("compare", "runs/tiny", "runs/tiny", "--json"),
        ("export", "runs/tiny", "--point", "p11999", "-o", "out"),
    ):
        done = cli(*arguments)
        assert (done.code, done.err) == (0, ""), arguments
    assert (ran / "report.html").stat().st_size < MOST_PAGE_MB * 1e6
    assert (ran / "front.svg").stat().st_size < 4e6
