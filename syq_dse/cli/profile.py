"""`syq-dse profile`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from syq_dse.cli.output import SEED, print_json, print_note, print_table, print_text, progress_bar
from syq_dse.cli.paths import DATASET, NETWORK, PATH


@click.command()
@click.option(
    "--network",
    "name",
    type=NETWORK,
    required=True,
    help="Shipped, a TOML file, or what `import` takes.",
)
@click.option("--dataset", type=DATASET, help="A shipped data set or a TOML file.  [the network's]")
@click.option("--data", type=PATH, help="Folder of the data set.")
@click.option("--pretrained", type=PATH, help="Float network.  [the shipped]")
@click.option(
    "--images",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="For ranges and batch-norm; as many others are measured on.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the images.")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes.  [one a core]")
@click.option("-o", "--out", type=PATH, help="Table.  [profiles/NAME.csv]")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON document.")
def command(
    name: str,
    dataset: str | None,
    data: Path | None,
    pretrained: Path | None,
    images: int,
    seed: int,
    jobs: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure what each choice of a layer or tensor costs by itself.

    Starts from the float network with int8 weights and 8 bits everywhere, quantises one layer or
    tensor otherwise, estimates batch-norm anew, and trains nothing. Writes a table with top-1,
    loss, and the error of the logits. A table that is not complete is continued.

    \b
    Example: syq-dse profile --network lenet5 --dataset fashion-mnist
    """
    from syq_dse import catalogue, network
    from syq_dse.accuracy import profiling, sensitivity
    from syq_dse.train import run

    net = network.load(name)
    chosen = catalogue.whole(dataset or net.file.recipe.dataset)
    settings = profiling.Settings(
        network=net,
        dataset=chosen,
        start=run.float_checkpoint(net, chosen, pretrained),
        data=data,
        images=images,
        seed=seed,
    )
    path = out or Path("profiles") / f"{net.name}-{Path(chosen).stem}.csv"
    with progress_bar() as progress:
        cores = len(os.sched_getaffinity(0))
        table = profiling.profile(settings, path, jobs=jobs or cores, progress=progress)
    if as_json:
        print_json({"profile": str(path), "rows": table.to_dict("records")})
        return
    base, plain = (
        100 * float(table.loc[table["item"] == item, "top1"].iloc[0])
        for item in (sensitivity.REFERENCE, sensitivity.FLOAT)
    )
    print_note(
        f"{net.name}, {images} images of {Path(chosen).stem}: float {plain:.2f} %, int8 weights "
        f"and 8 bits everywhere {base:.2f} %. Points of top-1 less than that, at the best "
        "granularity of each layer:"
    )
    table["less"] = base - 100 * table["top1"]
    for column in ("weights", "bits"):
        own = table[(table[column] != "") & (table[column] != 0)]
        best = own.pivot_table("less", "item", column, "min", sort=False)
        print_table(
            [
                {column: item, **{str(k): _figure(v) for k, v in row.items()}}
                for item, row in best.iterrows()
            ],
            dict.fromkeys(map(str, best.columns), 2),
        )
    print_text(str(path))


def _figure(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
