"""Calibration: prices that are known come back, errors are honest, and nothing is half written."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth import Const, Module

from syq_dse import catalogue, records, target
from syq_dse.cli import main
from syq_dse.cost import fpga
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.prices import UNITS, LutPrices, UnitPrices, load_lut, lut_text
from syq_dse.errors import InputError
from syq_dse.report.calibration_plot import scatter
from syq_dse.rtl import calibrate, runs
from syq_dse.rtl.fit import estimates, fit
from syq_dse.rtl.runs import RESOURCES, Run
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.stream import Unit
from syq_dse.rtl.synthesis import Synthesis
from syq_dse.target import Family

XCUP = target.load_family("xcup")


class Adders(Unit):
    """The sum of a word with a constant that a register holds back: one adder a lane."""

    def __init__(self, lanes: int, bits: int) -> None:
        super().__init__(2 * lanes * bits, lanes * bits)
        self.count, self.bits = lanes, bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.count * self.bits
        for lane in range(self.count):
            at = slice(lane * self.bits, (lane + 1) * self.bits)
            with m.If(self.m_ready):
                m.d.sync += self.m_data[at].eq(self.s_data[:width][at] + self.s_data[width:][at])
        m.d.comb += [self.s_ready.eq(self.m_ready), self.m_valid.eq(Const(1))]
        return m


def draw(rng: np.random.Generator, family: Family) -> Sample:
    lanes, bits = (int(n) for n in rng.integers(2, [9, 17]))
    return Sample(
        parameters={"lanes": lanes, "bits": bits, "kind": "plain"},
        unit=Adders(lanes, bits),
        counts=Counts(lut={"adder_bits": np.array(lanes * bits)}, ff=np.array([lanes * bits])),
    )


def draw_with_memory(rng: np.random.Generator, family: Family) -> Sample:
    lanes, bits, depth = (int(n) for n in rng.integers(2, [9, 17, 200]))
    features = {"adder_bits": lanes * bits, "select_bits": 3 * lanes, "never_bits": 0}
    memory = Memory(width=bits, depth=np.array([depth]))
    return Sample(
        parameters={"lanes": lanes, "bits": bits, "depth": depth},
        unit=Adders(lanes, bits),
        counts=Counts(lut=features, ff=lanes, memories=(memory, memory)),
        styles=("distributed", "block"),
    )


def made(lut: float, **other: int) -> Synthesis:
    counts = dict.fromkeys(("lutram", "ff", "dsp", "bram18", "uram"), 0) | other
    logic = int(lut) - counts["lutram"]
    return Synthesis(lut=int(lut), cells={"LUT6": logic}, **counts)


def doubled(prices: Mapping[str, float]) -> dict[str, Any]:
    """The prices of logic that is all LUTs of six inputs: each takes two halves."""
    return {name: pytest.approx((price, 2 * price), abs=2e-2) for name, price in prices.items()}


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The shipped prices as if nothing had been fitted: a calibration starts from nothing."""
    folder = tmp_path_factory.mktemp("shipped")
    for family in ("xcup", "xc7", "ecp5"):
        found = load_lut(family)
        units = {name: UnitPrices(lut=unit.lut) for name, unit in found.units.items()}
        bare = replace(found, status="uncalibrated", tool="none", units=units)
        (folder / f"{family}.toml").write_text(lut_text(bare))

    def find(out: Path, name: str) -> Path | None:
        return next((p for p in (out / name, folder / name) if p.is_file()), None)

    monkeypatch.setattr(calibrate, "find_table", find)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Synthesis that takes no time and follows known prices; the batches that it was given."""
    asked: list[list[str]] = []
    units: dict[str, Adders] = {}

    def emit(components: Mapping[str, Adders]) -> dict[str, str]:
        units.update(components)
        return dict.fromkeys(components, "module")

    def synthesise(modules: Mapping[str, str], *args: object) -> dict[str, Synthesis]:
        asked.append(list(modules))
        return {
            name: made(
                7 + units[name].count * units[name].bits, ff=units[name].m_data.shape().width
            )
            for name in modules
        }

    monkeypatch.setattr(calibrate, "emit", emit)
    monkeypatch.setattr(calibrate, "synthesise", synthesise)
    monkeypatch.setattr(calibrate, "draw_of", lambda unit: draw)
    return asked


def run_of(features: dict[str, float], lut: float, memory: int = 0, **changes: Any) -> Run:
    run = Run(
        unit="mac",
        run=0,
        seed=0,
        parameters={"pe": 1},
        features=features,
        memory_lut=memory,
        memory_halves=2 * memory,
        counted=dict.fromkeys(RESOURCES, 0),
        synthesised=made(lut),
        tool="a tool",
    )
    return replace(run, **changes)


# The fit


@pytest.mark.parametrize("seed", range(4))
def test_prices_that_are_known_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    price = {"unit": 12.0, "adder_bits": 1.0, "and_bits": 0.5, "free_bits": 0.0}
    found = []
    for number in range(40):
        bits = {n: 2 * int(10 ** rng.uniform(0.3, 3.5)) for n in price if n != "unit"}
        memory = int(rng.integers(0, 500))
        lut = 12 + bits["adder_bits"] + bits["and_bits"] / 2 + memory
        found.append(run_of(bits, lut, memory, run=number, parameters={"pe": number}))
    one = fit("mac", found, 6)
    assert one.prices.lut == doubled(price)
    assert one.prices.error["lut_mean"] < 0.001
    assert one.reached
    assert one.prices.valid == {"pe": (0, 39)}


def test_prices_are_never_negative() -> None:
    rng = np.random.default_rng(5)
    found = [
        run_of({"a": float(a), "b": float(b)}, 100 + 2 * a - 0.5 * b)
        for a, b in rng.integers(60, 200, (30, 2))
    ]
    assert min(min(pair) for pair in fit("mac", found, 6).prices.lut.values()) >= 0


def test_errors_are_of_runs_that_the_fit_had_not_seen() -> None:
    """Each run has a feature of its own: a fit to all is exact, and predicts nothing."""
    found = [run_of({f"f{i}": 100.0}, 100 + 37 * i) for i in range(10)]
    one = fit("mac", found, 6)
    assert estimates(one.prices, found) == pytest.approx([100 + 37 * i for i in range(10)], abs=1)
    assert one.prices.error["lut_mean"] > 0.2
    assert not one.reached
    assert one.worst is not None


def test_what_is_exact_is_told_from_what_is_not() -> None:
    found = [
        run_of(
            {"a": 100.0 + i},
            100 + i,
            counted=dict.fromkeys(RESOURCES, 100),
            synthesised=made(100 + i, ff=100 + (i == 3), dsp=100, bram18=90, uram=100, lutram=100),
        )
        for i in range(8)
    ]
    error = fit("mac", found, 6).prices.error
    assert [error[f"{name}_mismatches"] for name in RESOURCES] == [1, 0, 8, 0, 0]
    assert error["ff_worst"] == pytest.approx(1 / 101, rel=1e-3)
    assert error["ff_mean"] == pytest.approx(1 / 808, rel=1e-3)
    assert "lut_small_worst" not in error


def test_small_units_count_in_luts() -> None:
    found = [run_of({"a": float(n)}, n + (4 if n == 10 else 0)) for n in range(2, 20)]
    one = fit("mac", found, 6)
    assert one.worst is None
    assert "lut_mean" not in one.prices.error
    assert 2 <= one.prices.error["lut_small_worst"] <= 5
    assert one.prices.error["lut_runs"] == 0


def test_the_feature_that_is_wrong_is_suspected() -> None:
    rng = np.random.default_rng(2)
    found = []
    for a, b in rng.integers(20, 400, (60, 2)):
        found.append(run_of({"linear": float(a), "square": float(b)}, a + b * b / 100))
    assert fit("mac", found, 6).suspect == "square"


def test_one_run_is_too_few() -> None:
    with pytest.raises(InputError, match=r"^mac: 1 runs are too few to fit prices; raise --runs$"):
        fit("mac", [run_of({"a": 1.0}, 1)], 6)


def test_an_estimate_is_what_resources_says() -> None:
    pricing = fpga.pricing(target.load("zcu102"))
    lut = {"unit": (3.3, 3.0), "adder_bits": (0.9, 2.013), "select_bits": (0.21, 0.1)}
    price = UnitPrices(runs=1, lut=lut | {"never_bits": (1.0, 1.0)})
    pricing = replace(pricing, lut=replace(pricing.lut, units={"mac": price}))
    for drawn in calibrate.draws("mac", draw_with_memory, XCUP, 20, 0):
        run = drawn.run(XCUP, made(1), "a tool")
        counts = drawn.sample.counts
        bare = fpga.resources("mac", replace(counts, memories=()), pricing)
        memories = sum(
            fpga.map_memory(m, pricing, style)
            for m, style in zip(counts.memories, drawn.sample.styles, strict=True)
        )
        row = fpga.as_mapping(fpga.settled((bare + memories).reshape(-1)))
        assert estimates(price, [run]) == [row["lut"]]
        assert run.counted == {name: row[name] for name in RESOURCES}


# Drawing


def test_draws_are_different_and_more_contain_the_fewer() -> None:
    few = calibrate.draws("mac", draw, XCUP, 10, 3)
    many = calibrate.draws("mac", draw, XCUP, 30, 3)
    shown = [str(d.sample.parameters) for d in many]
    assert shown[:10] == [str(d.sample.parameters) for d in few]
    assert len(set(shown)) == 30
    assert shown != [str(d.sample.parameters) for d in calibrate.draws("mac", draw, XCUP, 30, 4)]
    assert shown != [str(d.sample.parameters) for d in calibrate.draws("add", draw, XCUP, 30, 3)]


def test_a_small_space_is_drawn_whole() -> None:
    def few(rng: np.random.Generator, family: Family) -> Sample:
        return replace(draw(rng, family), parameters={"n": int(rng.integers(3))})

    found = calibrate.draws("mac", few, XCUP, 50, 0)
    assert sorted(d.sample.parameters["n"] for d in found) == [0, 1, 2]


def test_a_unit_without_samples_is_named() -> None:
    with pytest.raises(InputError, match=r"^sink: has no samples \(syq_dse\.rtl\.samples\.sink\)$"):
        calibrate.draw_of("sink")


# Files


def test_a_calibration_leaves_prices_and_samples(quick: list[list[str]], tmp_path: Path) -> None:
    shown: list[tuple[int, int, str]] = []
    found = calibrate.calibrate(
        "xcup",
        [],
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        runs=12,
        seed=1,
        jobs=2,
        progress=lambda *state: shown.append(state),
    )
    assert sum(map(len, quick)) == 12 * len(UNITS)
    assert max(map(len, quick)) == calibrate.BATCH
    assert shown[-1] == (96, 96, "units synthesised")
    assert sorted(done for done, _, _ in shown) == [done for done, _, _ in shown]
    prices = records.load(tmp_path / "out" / "xcup.toml", LutPrices)
    assert prices == found.prices
    assert prices.status == "calibrated"
    assert prices.source.endswith("`syq-dse calibrate --family xcup --runs 12 --seed 1`")
    assert prices.tool.startswith("yosys 0.")
    assert list(prices.units) == list(UNITS)
    for unit in prices.units.values():
        assert unit.runs == 12
        assert unit.lut == doubled({"unit": 7, "adder_bits": 1})
        assert unit.error["lut_worst"] < 0.01
        assert unit.error["ff_mismatches"] == 0
        assert set(unit.valid) == {"lanes", "bits"}
    table = runs.read(tmp_path / "out" / "xcup_samples.csv")
    assert table == list(found.runs)
    assert [run.unit for run in table] == [unit for unit in UNITS for _ in range(12)]
    assert all(abs(run.estimated_lut - run.synthesised.lut) <= 1 for run in table)


def quickly(out: Path, *units: str, family: str = "xcup", seed: int = 0) -> calibrate.Calibration:
    return calibrate.calibrate(family, units, out=out, cache=out / "cache", runs=9, seed=seed)


def test_other_units_keep_what_they_have(quick: list[list[str]], tmp_path: Path) -> None:
    shipped = records.load(catalogue.folder("hwmodels") / "calibration" / "xc7.toml", LutPrices)
    first = quickly(tmp_path, "mac", "add", family="xc7").prices
    assert {u: p.lut for u, p in first.units.items() if u not in ("mac", "add")} == {
        u: p.lut for u, p in shipped.units.items() if u not in ("mac", "add")
    }
    assert first.status == "uncalibrated"
    second = quickly(tmp_path, "mac", family="xc7", seed=7)
    assert second.prices.units["add"] == first.units["add"]
    kept = [run for run in second.runs if run.unit in ("mac", "add")]
    assert {(run.unit, run.seed) for run in kept} == {("mac", 7), ("add", 0)}
    assert [one.unit for one in second.fits] == ["mac"]


def test_units_of_another_tool_are_not_mixed(quick: list[list[str]], tmp_path: Path) -> None:
    quickly(tmp_path, "mac")
    path = tmp_path / "xcup.toml"
    path.write_text(path.read_text().replace("yosys 0.", "yosys 9."))
    with pytest.raises(InputError, match=r"mac was synthesised by 'yosys 9\..*calibrate all units"):
        quickly(tmp_path, "add")


def test_refit_makes_the_same_prices_without_synthesis(
    quick: list[list[str]], tmp_path: Path
) -> None:
    first = quickly(tmp_path, "mac", "add")
    quick.clear()
    again = calibrate.refit("xcup", ["mac", "add"], out=tmp_path)
    assert not quick
    assert again.runs == first.runs
    assert again.prices.units == first.prices.units
    assert again.prices.source.endswith("--unit mac --unit add --refit`")
    assert again.prices.source.count("non-negative") == 1


def test_refit_takes_the_counts_of_now(
    quick: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly(tmp_path, "mac")

    def recounted(rng: np.random.Generator, family: Family) -> Sample:
        sample = draw(rng, family)
        return replace(sample, counts=Counts(lut={"halves": 2 * sample.counts.ff}, ff=0))

    monkeypatch.setattr(calibrate, "draw_of", lambda unit: recounted)
    lut = calibrate.refit("xcup", ["mac"], out=tmp_path).prices.units["mac"].lut
    assert lut == doubled({"unit": 7, "halves": 0.5})


def test_refit_of_other_draws_is_refused(
    quick: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly(tmp_path, "mac")
    monkeypatch.setattr(calibrate, "draw_of", lambda unit: draw_with_memory)
    with pytest.raises(InputError, match=r"run 0 of mac is now drawn as lanes=.*was lanes=.*kind="):
        calibrate.refit("xcup", ["mac"], out=tmp_path)
    with pytest.raises(InputError, match=r"has no runs of pool; run without --refit$"):
        calibrate.refit("xcup", ["pool"], out=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("memory_lut", "memory"), "the column 'memory_lut' is missing"),
        (lambda text: text.replace('""plain""', "plain"), "must hold JSON, got '{"),
        (lambda text: text.replace('""plain""', "[1]"), "parameters must be numbers and texts"),
        (lambda text: text.replace("mac,0,0,", "mac,0.5,0,"), "run: must be an integer, got 0.5"),
    ],
)
def test_message_for_a_broken_table(
    quick: list[list[str]], tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    quickly(tmp_path, "mac")
    path = tmp_path / "xcup_samples.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError) as caught:
        runs.read(path)
    assert str(caught.value).startswith("xcup_samples.csv: run 1: ")
    assert message in str(caught.value)


# Failures


def test_the_unit_that_fails_is_named_and_nothing_is_written(
    quick: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = calibrate.synthesise
    bad = calibrate.draws("mac", draw, XCUP, 9, 0)[4]

    def fail(modules: Mapping[str, str], *args: object) -> dict[str, Synthesis]:
        if bad.name in modules:
            raise InputError("yosys: ERROR: out of luck")
        return good(modules, *args)

    monkeypatch.setattr(calibrate, "synthesise", fail)
    with pytest.raises(InputError) as caught:
        quickly(tmp_path / "out", "mac")
    lanes, bits = bad.sample.parameters["lanes"], bad.sample.parameters["bits"]
    assert str(caught.value) == (
        f"mac (lanes={lanes}, bits={bits}, kind=plain): yosys: ERROR: out of luck"
    )
    assert not (tmp_path / "out").exists()
    assert [names for names in quick if len(names) == 1]  # the others were tried by themselves


def test_a_batch_that_is_too_slow_together_is_done_one_by_one(
    quick: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = calibrate.synthesise

    def slow(modules: Mapping[str, str], *args: object) -> dict[str, Synthesis]:
        if len(modules) > 1:
            raise InputError("yosys: exceeded its time limit")
        return good(modules, *args)

    monkeypatch.setattr(calibrate, "synthesise", slow)
    assert quickly(tmp_path, "mac").prices.units["mac"].runs == 9


# With Yosys


def test_real_synthesis_is_kept_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, twice: the second takes every result from the cache; then the figure."""
    monkeypatch.setattr(calibrate, "draw_of", lambda unit: draw)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = ["syq-dse", "calibrate", "--family", "xcup", "--unit", "add", "--runs", "5"]
    argv += ["--jobs", "1", "-o", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", argv)
    main()
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:2] == ["unit", "runs"]
    assert out.splitlines()[-1] == f"prices: {tmp_path / 'out' / 'xcup.toml'}"
    kept = sorted((tmp_path / "cache" / "syq-dse" / "synthesis").iterdir())
    assert len(kept) == 5
    # An adder bit is half a LUT beside its carry, or a whole one; a flip-flop holds it.
    with (tmp_path / "out" / "xcup_samples.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        bits = json.loads(row["features"])["adder_bits"]
        assert int(row["synthesised_ff"]) == int(row["counted_ff"]) == bits
        assert bits / 2 <= int(row["synthesised_lut"]) <= bits + 2

    times = [path.stat().st_mtime_ns for path in kept]
    (tmp_path / "out" / "xcup.toml").unlink()
    start = time.monotonic()
    main()
    assert time.monotonic() - start < 60
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert capsys.readouterr().out == out

    figure = scatter(tmp_path / "out" / "xcup_samples.csv")
    assert [axes.get_title() for axes in figure.axes] == ["add, 5 runs, band 12 %"]
    figure.savefig(tmp_path / "figure.png")


def test_a_time_limit_names_the_unit(tmp_path: Path) -> None:
    (drawn,) = calibrate.draws("mac", draw, XCUP, 1, 0)
    with pytest.raises(InputError, match=r"^mac \(lanes=.*exceeded its time limit of 0.01 s"):
        calibrate.measure([drawn], "xcup", tmp_path / "cache", timeout_s=0.01)
    assert not (tmp_path / "cache").exists()


def test_the_figure_has_a_panel_a_unit(quick: list[list[str]], tmp_path: Path) -> None:
    quickly(tmp_path, *UNITS[:5])
    figure = scatter(tmp_path / "xcup_samples.csv")
    assert [axes.get_title().split(",")[0] for axes in figure.axes if axes.axison] == list(
        UNITS[:5]
    )
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    path = tmp_path / "none.csv"
    path.write_text(",".join(runs.COLUMNS) + "\n")
    with pytest.raises(InputError, match=r"has no runs$"):
        scatter(path)


@pytest.mark.parametrize("column", ["run", "seed"])
def test_a_sample_drawn_by_a_negative_number_is_refused(column: str) -> None:
    """Generators of random numbers take none."""
    shipped = catalogue.folder("hwmodels") / "calibration" / "xc7_samples.csv"
    row = next(csv.DictReader(io.StringIO(shipped.read_text())))
    with pytest.raises(InputError, match=f"here: {column} must be a number from 0 on, got -1"):
        runs._run({**row, column: "-1"}, "here")
    with pytest.raises(ValueError, match="from 0 on, got -1"):
        runs.natural("-1")
