"""`syq-dse verify`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from syq_dse.cli.output import print_json, print_table, print_text, progress_bar
from syq_dse.cli.paths import PATH

SHOWN = ("lut", "ff", "dsp", "bram18", "uram")


@click.command()
@click.argument("run", type=PATH)
@click.option("--point", default="knee", show_default=True, help="Id, number or name of a point.")
@click.option("--integers", type=PATH, help="Trained integers, .safetensors.")
@click.option("--images", type=click.IntRange(0), help="Simulate so many.  [2 with --integers]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of random integers.  [0]")
@click.option("--jobs", type=click.IntRange(1), help="Runs of Yosys at a time.  [processors]")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=3600,
    show_default=True,
    help="Seconds for one run of Yosys.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    run: Path,
    point: str,
    integers: Path | None,
    images: int | None,
    seed: int,
    jobs: int | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Synthesise the engines of a point, and show the estimate beside the result.

    Without --integers, weights, scales and thresholds are random.

    \b
    Example: syq-dse verify runs/fmnist-vgg-zcu102 --point smallest
    """
    from syq_dse.rtl import calibrate, emit, verify, write
    from syq_dse.search.settled import settled_point

    if images is None:
        images = 2 if integers is not None else 0
    net, prices, settled = settled_point(run, point)
    built, found = write.engines(prices, net, settled, integers, seed)
    texts = emit.files(net, built)
    with progress_bar() as progress:
        compared = verify.verify(
            built,
            texts,
            prices.family.name,
            cache=calibrate.cache_folder(),
            jobs=jobs or os.cpu_count() or 1,
            timeout_s=timeout,
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
            what: {name: sum(row[what][name] for row in rows) for name in verify.COMPARED}
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
    print_table([_row(row) for row in [*rows, total]], {"lut off %": 1, "ff off %": 1})
    print_text("First the estimate, then synthesis by Yosys; LUTs include those that are memory.")
    if simulated is not None:
        print_text(
            f"simulated {simulated.images} images, results equal to the integer model: "
            f"{simulated.interval_cycles or '-'} cycles an image, latency "
            f"{simulated.latency_cycles} cycles"
        )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"layer": row["layer"]}
    for name in SHOWN:
        estimate, real = row["estimate"][name], row["synthesis"][name]
        shown[name] = f"{estimate} {real}"
        if name in ("lut", "ff"):
            shown[f"{name} off %"] = 100 * (estimate - real) / real if real else None
    return shown
