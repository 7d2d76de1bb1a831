"""`syq-dse validate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from syq_dse.cli.output import print_json, print_note, print_table, progress_bar
from syq_dse.cli.paths import DATASET, PATH, POINT, RECIPE


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--points", "names", type=POINT, help="Ids or names, such as knee,3,7.  [knee without --top]"
)
@click.option("--top", type=click.IntRange(1), help="So many of the most accurate.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--recipe", type=RECIPE, default="modern", show_default=True, help="A name or a TOML file."
)
@click.option("--epochs", type=click.IntRange(1), help="[default: the recipe's or network's]")
@click.option("--dataset", type=DATASET, help="A shipped data set or a TOML file.  [the network's]")
@click.option("--data", type=PATH, help="Folder of the data set.")
@click.option("--pretrained", type=PATH, help="Float network to start from.")
@click.option(
    "--measure",
    "part",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="On which images: those that may guide a choice, or the report's.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--jobs", type=click.IntRange(0, 1024), help="Trainings at a time.  [processors]")
@click.option("--storage", metavar="URL", help="Of their queue.  [the journal in the run folder]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    run: Path,
    names: str | None,
    top: int | None,
    seeds: int,
    jobs: int | None,
    storage: str | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train points of a run and put their measured accuracy on its front.

    Writes validation.csv, a row a training, and the mean and its 95 % interval into front.csv.
    Trainings that are there already are not repeated. `syq-dse worker` takes some too.

    \b
    Example: syq-dse validate runs/fmnist-vgg-zcu102 --points knee --seeds 3
    """
    from syq_dse.report import front_plot, page
    from syq_dse.search import validation
    from syq_dse.search.trainer import Workers
    from syq_dse.search.trainings import Options

    asked = [name.strip() for name in names.split(",")] if names else []
    if not asked and top is None:
        asked = ["knee"]
    chosen = validation.choose(run, asked, top)
    with progress_bar() as progress:
        rows = validation.validate(
            run,
            chosen,
            seeds,
            Workers(
                jobs=len(os.sched_getaffinity(0)) if jobs is None else jobs,
                storage=storage,
                device=device,
            ),
            Options(**options),
            progress,
        )
    front_plot.draw_run(run, run)
    page.write(run)
    found = validation.table(rows)
    if as_json:
        print_json({"points": found, "trainings": rows.to_dict("records")})
        return
    shares = ("top1", "low", "high", "top5")
    shown = [
        {(f"{k} %" if k in shares else k): 100 * v if k in shares else v for k, v in row.items()}
        for row in found
    ]
    decimals = {"seconds": 0, **{f"{name} %": 2 for name in shares}}
    print_table(shown, decimals)
    one = all(row["seeds"] == 1 for row in found)
    print_note(
        "low and high: 95 % interval "
        + (
            "from the number of images; how training scatters needs --seeds 2 or more"
            if one
            else "of the mean, from the scatter over seeds"
        )
    )
    click.echo(run / validation.VALIDATION)
