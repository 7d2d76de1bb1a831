"""`syq-dse calibrate`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syq_dse.cli.output import print_note, print_table, print_text, progress_bar
from syq_dse.cli.paths import PATH, TECHNOLOGY
from syq_dse.cost.gates import PRICED
from syq_dse.cost.prices import UNITS
from syq_dse.rtl import synthesis

if TYPE_CHECKING:
    from syq_dse.rtl.calibrate import Calibration
    from syq_dse.rtl.fit import UnitFit
    from syq_dse.rtl.liberty import Library

FAMILIES = list(synthesis.COMMANDS)


@click.command()
@click.option("--family", type=click.Choice(FAMILIES), help="Device family.")
@click.option(
    "--technology", type=TECHNOLOGY, help="In place of a family: a shipped one or a TOML file."
)
@click.option("--liberty", type=PATH, multiple=True, help="Cells of the technology; repeatable.")
@click.option("--energy", is_flag=True, help="Of a technology: energy alone.")
@click.option("--clock", is_flag=True, help="Of a technology: longest paths alone.")
@click.option("--sram", type=PATH, multiple=True, help="Liberty of SRAM macros; repeatable.")
@click.option(
    "--unit", "units", type=click.Choice(PRICED), multiple=True, help="Repeatable.  [default: all]"
)
@click.option("--runs", type=click.IntRange(2), default=60, show_default=True, help="Runs a unit.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Runs of Yosys at a time.  [processors]")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=600,
    show_default=True,
    help="Seconds for one run of Yosys.",
)
@click.option("--refit", is_flag=True, help="Fit the samples of --out again; no synthesis.")
@click.option("-o", "--out", type=PATH, default=Path("calibration"), show_default=True)
def command(
    family: str | None,
    technology: str | None,
    liberty: tuple[Path, ...],
    energy: bool,
    clock: bool,
    sram: tuple[Path, ...],
    units: tuple[str, ...],
    runs: int,
    seed: int,
    jobs: int | None,
    timeout: float,
    refit: bool,
    out: Path,
) -> None:
    """Fit the LUT prices of a family, or the gate prices of a technology, to synthesis.

    Units of random parameters are synthesised; NAME.toml has the prices, NAME_samples.csv the
    units. What is synthesised stays in the user's cache, so that a calibration that broke off goes
    on. A technology's units are also simulated gate by gate and timed, for NAME-energy.toml and
    NAME-clock.toml, 24 and 40 of each kind at most; with --energy or --clock only that, with
    --unit or --refit only gates. With --sram its SRAM is fitted to macros' Liberty files instead.

    \b
    Example: syq-dse calibrate --family xcup --unit add --runs 10
    """
    from syq_dse.rtl import calibrate

    if (family is None) == (technology is None):
        raise click.UsageError("give either --family or --technology")
    if bool(sram) + energy + clock > 1:
        raise click.UsageError("give one of --sram, --energy and --clock")
    if technology is not None:
        if sram:
            _sram(technology, sram, out)
            return
        if not energy and not clock:
            _gates(technology, liberty, units, runs, seed, jobs, timeout, refit, out)
        whole = not (units or refit or energy or clock)
        if energy or whole:
            of_unit = min(runs, MOST_ENERGY_RUNS) if whole else runs
            _energy(technology, liberty, of_unit, seed, jobs, timeout, out)
        if clock or whole:
            of_unit = min(runs, MOST_CLOCK_RUNS) if whole else runs
            _clock(technology, liberty, of_unit, seed, jobs, timeout, refit, out)
        return
    if liberty or sram or energy or clock:
        raise click.UsageError("--liberty, --sram, --energy and --clock are for a --technology")
    others = [unit for unit in units if unit not in UNITS]
    if others:
        raise click.UsageError(f"--unit {others[0]} is for a --technology")
    assert family is not None
    if refit:
        found = calibrate.refit(family, units, out=out)
    else:
        with progress_bar() as progress:
            found = calibrate.calibrate(
                family,
                units,
                out=out,
                cache=calibrate.cache_folder(),
                runs=runs,
                seed=seed,
                jobs=jobs or os.cpu_count() or 1,
                timeout_s=timeout,
                progress=progress,
            )
    _print(found, out / f"{family}.toml")


MOST_ENERGY_RUNS, MOST_CLOCK_RUNS = 24, 40
"""Runs a unit of a calibration of all, for its time: a range and a fit need no more."""


def _gates(
    name: str,
    liberty: Sequence[Path],
    units: Sequence[str],
    runs: int,
    seed: int,
    jobs: int | None,
    timeout: float,
    refit: bool,
    out: Path,
) -> None:
    """Calibrate the cells of a technology."""
    from syq_dse import technology
    from syq_dse.rtl import calibrate, gate_calibration

    own = technology.load(name)
    library = _library(own.name, liberty)
    if refit:
        found = gate_calibration.refit(own, library, units, out)
    else:
        with progress_bar() as progress:
            found = gate_calibration.run_calibration(
                own,
                library,
                units,
                out=out,
                cache=calibrate.cache_folder(),
                runs=runs,
                seed=seed,
                jobs=jobs or os.cpu_count() or 1,
                timeout_s=timeout,
                progress=progress,
            )
    rows = [
        {
            "unit": one.unit,
            "runs": one.prices.runs,
            "gates %": _percent(one.prices.error.get("mean")),
            "worst %": _percent(one.prices.error.get("worst")),
        }
        for one in found.fits
    ]
    print_table(rows, {"gates %": 1, "worst %": 1})
    print_note(
        f"Errors are of units of {gate_calibration.SMALL} gate equivalents and more that the fit "
        f"had not seen; one is {library.nand2}, {found.prices.nand2_um2:g} um2."
    )
    for one in found.fits:
        if one.prices.runs < 2 * len(one.prices.gates):
            few = f"{one.prices.runs} runs are few for {len(one.prices.gates)} prices"
            print_text(f"{one.unit}: {few}; raise --runs")
    click.echo(f"prices: {out / f'{own.name}.toml'}")


def _library(name: str, liberty: Sequence[Path]) -> Library:
    from syq_dse.rtl.liberty import read

    if not liberty:
        raise click.UsageError(f"give the cells of {name} with --liberty")
    return read(liberty)


def _energy(
    name: str,
    liberty: Sequence[Path],
    runs: int,
    seed: int,
    jobs: int | None,
    timeout: float,
    out: Path,
) -> None:
    """Calibrate the energy of a technology's cells."""
    from syq_dse import technology
    from syq_dse.rtl import energy_calibration

    own = technology.load(name)
    library = _library(own.name, liberty)
    with progress_bar() as progress:
        found = energy_calibration.run_calibration(
            own,
            library,
            out=out,
            runs=runs,
            seed=seed,
            jobs=jobs or os.cpu_count() or 1,
            timeout_s=timeout,
            progress=progress,
        )
    rows = [
        {
            "unit": unit,
            "runs": one.runs,
            "fJ a gate and cycle": one.fj,
            "lowest tenth": one.low,
            "highest tenth": one.high,
            "toggles of a net": one.toggles,
        }
        for unit, one in found.units.items()
    ]
    print_table(rows, {"toggles of a net": 2})
    print_note(f"A flip-flop's clock: {found.flip_flop_fj:g} fJ a cycle. {found.provenance()}")
    click.echo(f"energy: {out / f'{own.name}-energy.toml'}")


def _clock(
    name: str,
    liberty: Sequence[Path],
    runs: int,
    seed: int,
    jobs: int | None,
    timeout: float,
    refit: bool,
    out: Path,
) -> None:
    """Calibrate the longest paths of a technology's units."""
    from syq_dse import technology
    from syq_dse.rtl import clock_calibration

    own = technology.load(name)
    if refit:
        found = clock_calibration.refit(own, out)
    else:
        library = _library(own.name, liberty)
        with progress_bar() as progress:
            found = clock_calibration.run_calibration(
                own,
                library,
                out=out,
                runs=runs,
                seed=seed,
                jobs=jobs or os.cpu_count() or 1,
                timeout_s=timeout,
                progress=progress,
            )
    rows = [
        {
            "unit": unit,
            "runs": one.runs,
            "shortest ns": one.least_ns,
            "longest ns": one.most_ns,
            "off %": 100 * one.error["mean"],
            "worst %": 100 * one.error["worst"],
        }
        for unit, one in found.units.items()
    ]
    print_table(rows, {"shortest ns": 3, "longest ns": 3, "off %": 1, "worst %": 1})
    print_note(
        f"From register to register; a flip-flop has {found.register_ns:g} ns of it. {found.source}"
    )
    click.echo(f"delays: {out / f'{own.name}-clock.toml'}")


def _sram(name: str, files: Sequence[Path], out: Path) -> None:
    """Calibrate the SRAM of a technology."""
    from syq_dse import technology
    from syq_dse.rtl import sram_calibration

    own = technology.load(name).name
    found = sram_calibration.run_calibration(own, files, out)
    rows = [
        {"figure": figure, "mean %": 100 * mean, "worst %": 100 * worst}
        for figure, (mean, worst) in found.error.items()
    ]
    print_table(rows, {"mean %": 1, "worst %": 1})
    print_note(f"Errors of each of {found.macros} macros by a fit to the others.")
    click.echo(f"prices: {out / f'{own}-sram.toml'}")


def _print(found: Calibration, path: Path) -> None:
    print_table([_row(one) for one in found.fits], {"LUT %": 1, "worst %": 1, "FF %": 1})
    for one in found.fits:
        for line in _remarks(one):
            print_text(line)
    print_note("Errors of LUTs are of units of 50 LUTs and more that the fit had not seen.")
    click.echo(f"prices: {path}")


def _row(one: UnitFit) -> dict[str, Any]:
    error = one.prices.error
    exact = [name for name in error if name.endswith("_mismatches")]
    return {
        "unit": one.unit,
        "runs": one.prices.runs,
        "LUT %": _percent(error.get("lut_mean")),
        "worst %": _percent(error.get("lut_worst")),
        "FF %": _percent(error["ff_mean"]),
        **{f"{name.removesuffix('_mismatches')} off": int(error[name]) for name in exact},
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _remarks(one: UnitFit) -> Sequence[str]:
    """Where the prices miss the bar, and which of them rest on nothing."""
    lines = []
    if one.prices.runs < 4 * len(one.prices.lut):
        few = f"{one.prices.runs} runs are few for {len(one.prices.lut)} prices"
        lines.append(f"{one.unit}: {few}; raise --runs")
    if one.worst is not None and not one.reached:
        at = ", ".join(f"{name}={value}" for name, value in one.worst.parameters.items())
        with_feature = f"; errors go with the share of {one.suspect}" if one.suspect else ""
        lines.append(f"{one.unit}: worst {100 * one.worst_error:+.1f} % at {at}{with_feature}")
    if one.unseen:
        lines.append(f"{one.unit}: no run has any {', '.join(one.unseen)}: no price follows")
    return lines
