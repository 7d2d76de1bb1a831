"""`syq-dse verify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syq_dse.cli.output import print_json, print_note, print_table, print_text, progress_bar
from syq_dse.cli.paths import PATH, POINT
from syq_dse.errors import InputError

if TYPE_CHECKING:
    from syq_dse.cost.pricing import Pricing
    from syq_dse.rtl import verify

SHOWN = ("lut", "ff", "dsp", "bram18", "uram", "gate_equivalents")


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--point", type=POINT, default="knee", show_default=True, help="Id, number or name of a point."
)
@click.option("--integers", type=PATH, help="Trained integers, .safetensors.")
@click.option("--trained", is_flag=True, help="Those of the point's training in the run.")
@click.option("--images", type=click.IntRange(0), help="Simulate so many.  [2 of trained integers]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of random integers.  [0]")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Runs of Yosys at a time.  [processors]")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=3600,
    show_default=True,
    help="Seconds for one run of Yosys.",
)
@click.option("--liberty", type=PATH, multiple=True, help="Of a technology's cells; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    run: Path,
    point: str,
    integers: Path | None,
    trained: bool,
    images: int | None,
    seed: int,
    jobs: int | None,
    timeout: float,
    liberty: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Synthesise the engines of a point, and show the estimate beside the result.

    Without --integers and --trained, weights, scales and thresholds are random.

    \b
    Example: syq-dse verify runs/fmnist-vgg-zcu102 --point smallest
    """
    from syq_dse.rtl import emit, verify, write
    from syq_dse.search.settled import settled_point

    if trained:
        if integers is not None:
            raise click.UsageError("give either --integers or --trained")
        integers = _trained(run, point)
    if images is None:
        images = 2 if integers is not None else 0
    net, prices, settled = settled_point(run, point)
    built, found = write.engines(prices, net, settled, integers, seed)
    texts = emit.files(net, built)
    with progress_bar() as progress:
        compared = verify.verify(
            built,
            texts,
            _synthesis(prices, liberty, timeout),
            jobs=jobs or os.cpu_count() or 1,
            progress=progress,
        )
    simulated = None
    if images:
        simulated = verify.simulate_design(
            net, settled.scheme, settled.interval, built, texts, found, images
        )
    rows: list[dict[str, Any]] = [
        {"layer": c.layer, "estimate": dict(c.estimate), "synthesis": dict(c.synthesis)}
        for c in compared
    ]
    total = {
        "layer": "total",
        **{
            what: {name: sum(row[what][name] for row in rows) for name in rows[0][what]}
            for what in ("estimate", "synthesis")
        },
    }
    if as_json:
        print_json(
            {
                "point": point,
                "layers": rows,
                "total": total,
                "simulated": None
                if simulated is None
                else {
                    "images": simulated.images,
                    "interval_cycles": simulated.interval_cycles,
                    "latency_cycles": simulated.latency_cycles,
                },
            }
        )
        return
    decimals = {f"{name} off %": 1 for name in OFF}
    print_table([_row(row) for row in [*rows, total]], decimals)
    print_note(
        "First the estimate, then synthesis by Yosys; "
        + ("SRAM is left out." if liberty else "LUTs include those that are memory.")
    )
    if simulated is not None:
        print_text(
            f"simulated {simulated.images} images, results equal to the integer model: "
            f"{simulated.interval_cycles or '-'} cycles an image, latency "
            f"{simulated.latency_cycles} cycles"
        )


def _trained(run: Path, point: str) -> Path:
    """The integers that `validate` has left of a point."""
    from syq_dse.interop import trained
    from syq_dse.interop.point import read_point
    from syq_dse.train.run import INTEGERS

    return trained.training_of(run, read_point(run, point)) / INTEGERS


OFF = ("lut", "ff", "gate_equivalents")
"""Whose relative difference is shown."""


def _row(row: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"layer": row["layer"]}
    for name in SHOWN:
        if name not in row["synthesis"]:
            continue
        estimate, real = row["estimate"][name], row["synthesis"][name]
        shown[name] = f"{estimate} {real}"
        if name in OFF:
            shown[f"{name} off %"] = 100 * (estimate - real) / real if real else None
    return shown


def _synthesis(prices: Pricing, liberty: Sequence[Path], timeout_s: float) -> verify.Synthesise:
    """How the engines of a target are synthesised.

    Raises:
        InputError: a technology without its Liberty files, or a board with some.
    """
    from syq_dse.cost import asic
    from syq_dse.rtl import calibrate, verify
    from syq_dse.rtl.liberty import read

    cache = calibrate.cache_folder()
    if not isinstance(prices, asic.Pricing):
        if liberty:
            raise InputError(f"--liberty is for a technology; {prices.target.name} is a board")
        return verify.on_board(prices.family.name, cache, timeout_s)
    if not liberty:
        name = prices.target.name
        files = ", ".join(prices.gates.library)
        raise InputError(f"{name}: give its cells with --liberty, for each of {files}")
    library = read(liberty)
    own = {file.sha256 for file in library.files}
    if own != set(prices.gates.library.values()):
        raise InputError(
            f"--liberty: is not the library of {prices.target.name}'s calibration: its files are "
            f"{', '.join(prices.gates.library)}, by SHA-256 of their text without comments"
        )
    return verify.on_cells(prices.target, library, cache, timeout_s)
