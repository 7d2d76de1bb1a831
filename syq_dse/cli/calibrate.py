"""`syq-dse calibrate`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syq_dse.cli.output import print_table, print_text, progress_bar
from syq_dse.cli.paths import PATH
from syq_dse.cost.prices import UNITS
from syq_dse.rtl import synthesis

if TYPE_CHECKING:
    from syq_dse.rtl.calibrate import Calibration
    from syq_dse.rtl.fit import UnitFit

FAMILIES = list(synthesis.COMMANDS)


@click.command()
@click.option("--family", type=click.Choice(FAMILIES), required=True, help="Device family.")
@click.option(
    "--unit", "units", type=click.Choice(UNITS), multiple=True, help="Repeatable.  [default: all]"
)
@click.option("--runs", type=click.IntRange(2), default=60, show_default=True, help="Runs a unit.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--jobs", type=click.IntRange(1), help="Runs of Yosys at a time.  [processors]")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds for one run of Yosys.",
)
@click.option("--refit", is_flag=True, help="Fit the samples of --out again; no synthesis.")
@click.option("-o", "--out", type=PATH, default=Path("calibration"), show_default=True)
def command(
    family: str,
    units: tuple[str, ...],
    runs: int,
    seed: int,
    jobs: int | None,
    timeout: float,
    refit: bool,
    out: Path,
) -> None:
    """Fit the LUT prices of a family to synthesis of units with random parameters.

    Leaves FAMILY.toml, the prices, and FAMILY_samples.csv. What is synthesised stays in the user's
    cache, so that a calibration that broke off goes on.

    \b
    Example: syq-dse calibrate --family xcup --unit add --runs 10
    """
    from syq_dse.rtl import calibrate

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


def _print(found: Calibration, path: Path) -> None:
    print_table([_row(one) for one in found.fits], {"LUT %": 1, "worst %": 1, "FF %": 1})
    for one in found.fits:
        for line in _remarks(one):
            print_text(line)
    print_text("Errors of LUTs are of units of 50 LUTs and more that the fit had not seen.")
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
