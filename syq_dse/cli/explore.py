"""`syq-dse explore`."""

from __future__ import annotations

import os
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from syq_dse import catalogue, network, records
from syq_dse.cli import interrupted
from syq_dse.cli.output import (
    print_json,
    print_note,
    print_sources,
    print_table,
    print_text,
    print_warnings,
    progress_bar,
)
from syq_dse.cli.paths import DATASET, NETWORK, PATH, RECIPE, STUDY, TARGET, words
from syq_dse.errors import InputError


@click.command()
@click.option(
    "--target", "board", type=TARGET, help="A shipped board or technology, or a TOML file."
)
@click.option(
    "--network",
    "name",
    type=NETWORK,
    help="Shipped, a TOML file, or what `import` takes.  [fmnist-vgg]",
)
@click.option(
    "--study",
    "study_file",
    type=STUDY,
    help="Settings: a shipped study or a TOML file, such as a run's.",
)
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    shell_complete=words(lambda: import_module("syq_dse.search.problem").OBJECTIVES),
    help="Repeat, 2 to 4.  [accuracy, fps]",
)
@click.option("--fps", type=float, help="Least images a second.")
@click.option("--area-mm2", type=float, help="Budget of a technology [mm2].  [its own]")
@click.option("--node", "node_nm", type=float, help="Scale a technology to this node [nm].")
@click.option("--limit", type=float, help="Most of each resource to fill, 0 to 1.  [0.8]")
@click.option("--clock", "clock_mhz", type=float, help="Clock [MHz].  [the target's]")
@click.option("--profile", help="Sensitivity profile, or none.  [the network's, where shipped]")
@click.option(
    "--sampler",
    shell_complete=words(
        lambda: ("exact", *import_module("syq_dse.search.samplers").SAMPLERS, "all")
    ),
    help="exact, nsga2, nsga3, tpe, gp, random or all.  [exact]",
)
@click.option("--unseeded", is_flag=True, help="Do not start samplers from the exact front.")
@click.option("--repeats", type=int, help="Seeds of each sampler with --sampler all.  [5]")
@click.option("--trials", type=int, help="Designs that the sampler proposes.  [2000]")
@click.option("--seed", type=int, help="Seed of the sampler.  [0]")
@click.option("--weights", help="Codebooks, with commas.  [binary,ternary,int4,int8]")
@click.option("--granularity", help="Granularities, with commas.  [layer,row,pixel]")
@click.option("--scale", help="Scale formats, with commas.  [fixed8,shift]")
@click.option("--bits", help="Activation precisions, with commas.  [1,2,3,4,8]")
@click.option("--intervals", type=int, help="Points of the grid of intervals.  [by network size]")
@click.option("--storage", metavar="URL", help="Optuna's storage.  [a journal in the run folder]")
@click.option(
    "--validate", "trainings", type=click.IntRange(0), help="Train so many points' seeds."
)
@click.option("--minutes", type=click.FloatRange(0), help="Begin no training after so many.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Of a point.")
@click.option("--jobs", type=click.IntRange(0, 1024), help="Trainings at a time.  [processors]")
@click.option("--batch", type=click.IntRange(1), help="Points under way at a time.  [--jobs]")
@click.option("--recipe", type=RECIPE, default="modern", show_default=True, help="Of trainings.")
@click.option("--epochs", type=click.IntRange(1), help="Of trainings.  [the recipe's]")
@click.option("--dataset", type=DATASET, help="To train on.  [the network's]")
@click.option("--data", type=PATH, help="Folder of the data set.")
@click.option("--pretrained", type=PATH, help="Float network to start from.  [the shipped]")
@click.option("--out", type=PATH, help="Run folder.  [runs/NETWORK-TARGET]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    study_file: str | None,
    storage: str | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
    trainings: int | None,
    minutes: float | None,
    seeds: int,
    jobs: int | None,
    batch: int | None,
    recipe: str,
    epochs: int | None,
    dataset: str | None,
    data: Path | None,
    pretrained: Path | None,
    unseeded: bool,
    **given: Any,
) -> None:
    """Search precision and granularity; leave a run folder with a Pareto front.

    With --validate, points from which most hypervolume is expected are trained, the predictor
    learns from them, and the search goes on; trainings that the run has count. They are a queue in
    the storage: `syq-dse worker` takes them too, here or on other machines, and --jobs 0 leaves all
    to those.

    Defaults are in square brackets. Objectives: accuracy, fps, utilization, latency, lut, ff, dsp,
    bram, uram, energy, area. Boards have no area, technologies no resources of boards.

    \b
    Example: syq-dse explore --network cnv --target pynq-z1 --bits 1,2 --fps 1000
    """
    from syq_dse.cost import pricing
    from syq_dse.report import front_plot, page, sampler_plot
    from syq_dse.search import loop, run
    from syq_dse.search.trainer import Workers
    from syq_dse.search.trainings import Options

    if resume and out is None:
        raise click.UsageError("--resume needs the run's folder: --out runs/NAME")
    if unseeded:
        given["seeded"] = False
    study = _study(study_file, given, out if resume else None)
    net, chosen = network.load(study.network), pricing.read(study.target)
    folder = out or run.free_folder(Path("runs"), f"{net.name}-{chosen.name}")
    made = 0
    try:
        with progress_bar() as progress:
            run.explore(study, folder, storage, resume, progress)
            if trainings:
                count = len(os.sched_getaffinity(0)) if jobs is None else jobs
                budget = loop.Budget(
                    trainings=trainings,
                    minutes=minutes,
                    seeds=seeds,
                    batch=batch or max(count, 1),
                )
                options = Options(
                    recipe=recipe, epochs=epochs, dataset=dataset, data=data, pretrained=pretrained
                )
                workers = Workers(jobs=count, storage=storage)
                made = loop.improve(folder, budget, workers, options, progress)
            front_plot.draw_run(folder, folder)
            page.write(folder)
            if study.sampler == "all":
                sampler_plot.draw(folder)
    except BaseException as error:
        if not interrupted(error):
            raise
        again = f"`syq-dse explore --resume --out {shlex.quote(str(folder))}`"
        if trainings:
            again = f"the same command with --resume --out {shlex.quote(str(folder))}"
        raise KeyboardInterrupt(f"interrupted; {again} goes on") from None
    with run.unchanged(folder):
        found = run.read_front(folder)
        outside = [] if as_json else _outside(found, folder)
    if as_json:
        print_json({"run": str(folder), **found})
    else:
        _print(found, folder, outside)
        if trainings and made < trainings and minutes is None:
            why = "no point of the front is left to train"
            if trainings - made < seeds:
                why = f"a further point takes {seeds}"
            print_text(f"{made} of {trainings} trainings: {why}")


def _study(study_file: str | None, given: dict[str, Any], resumed: Path | None) -> Any:
    """The study of the options, over those of a file or of the run that is resumed."""
    from syq_dse.search import run
    from syq_dse.search.study import Study

    data: dict[str, Any] = {}
    place = "explore"
    if study_file is not None:
        path = catalogue.find("study", study_file, "studies")
        data, place = records.read(path), str(path)
        if "format" in data and isinstance(data.get("study"), dict):
            run.check_format(data, path)
            data = data["study"]  # of a run folder: all settings resolved
    elif resumed is not None:
        data = records.plain(run.read_record(resumed).study)
    names = {"board": "target", "name": "network"}
    spaces = ("weights", "granularity", "scale", "bits", "intervals")
    set_here = {k: v for k, v in given.items() if v is not None and v != ()}
    options = {names.get(k, k): v for k, v in set_here.items() if k not in spaces}
    space = {k: v if k == "intervals" else _list(k, v) for k, v in set_here.items() if k in spaces}
    merged = {**data, **options}
    held = merged.get("space", {})
    if space and isinstance(held, dict):  # else the record refuses it
        merged["space"] = {**held, **space}
    if "target" not in merged:
        raise click.UsageError("--target is missing; `syq-dse targets` lists them")
    return records.structure(merged, Study, place)


def _list(name: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(",")]
    if name != "bits":
        return parts
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise InputError(f"--bits must be numbers with commas, got {text!r}") from None


def _outside(found: dict[str, Any], folder: Path) -> list[str]:
    """Warnings of the points that have a name, each once."""
    from syq_dse.search import run

    lines: dict[str, None] = {}
    for point in dict.fromkeys(found["named"].values()):
        if not (folder / run.POINTS / f"{point}.json").is_file():
            continue  # a page, too, does without
        for line in run.read_point(folder, point)["cost"].get("warnings", []):
            lines[f"{point}: {line}"] = None
    return list(lines)


MOST_ROWS = 20
"""Points that the terminal shows besides those with a name; front.csv has all."""


def _print(found: dict[str, Any], folder: Path, outside: list[str]) -> None:
    rows = found["points"]
    step = -(-len(rows) // MOST_ROWS)
    named = found["named"].values()
    shown = [row for i, row in enumerate(rows) if i % step == 0 or row["point"] in named]
    print_table([_row(row, found["objectives"]) for row in shown], DECIMALS)
    if len(rows) == 1:
        print_note(
            "one design is the best in all objectives; a further --objective, such as lut, or a "
            "smaller --target shows what less hardware costs"
        )
    if len(shown) < len(rows):
        print_note(f"{len(shown)} of {len(rows)} points; all are in front.csv")
    print_text(", ".join(f"{name}: {point}" for name, point in found["named"].items()))
    _print_quality(found["summary"])
    print_note(f"accuracy: {found['accuracy_note']}")
    energy = ("energy",) if "energy" in found["objectives"] else ()
    print_sources(found["provenance"], ("lut", "area", "sram", *energy, "node"))
    print_warnings(outside)
    click.echo(f"run: {folder}")


DECIMALS = {"accuracy": 4, "filled %": 1, "area um2": 0}

UNITS = {"energy": "energy uJ"}

MAIN = {
    "lut": "lut",
    "dsp": "dsp",
    "bram18": "bram18",
    "area_um2": "area um2",
    "gate_equivalents": "gates",
    "sram_bits": "sram bits",
}
"""Resources that every table of points shows, where the target has them."""


def _row(row: dict[str, Any], objectives: list[str]) -> dict[str, Any]:
    further = {"ff": row["ff"], "uram": row.get("uram"), "energy": row["energy_uj"]}
    main = [name for name in MAIN if name in row]
    return {
        "point": row["point"],
        "accuracy": row["accuracy"],
        "fps": row["fps"],
        "latency us": row["latency_us"],
        **{MAIN[name]: row[name] for name in main},
        **{UNITS.get(n, n): further[n] for n in objectives if n in further},
        "filled %": 100 * row["utilization"],
    }


def _print_quality(summary: dict[str, Any]) -> None:
    """How complete the front is, and what share of its hypervolume the sampler reached."""
    whole = summary["hypervolume_exact"]
    exact = "exact front of the priced space"
    near = "near-exact front of the priced space (further objectives at a grid of bounds)"
    print_note(f"{exact if summary['exact'] else near}, hypervolume {whole:.6g}")
    if "samplers" in summary:
        print_table(
            [
                {
                    "sampler": row["sampler"],
                    "designs": row["designs"],
                    "seconds": row["seconds"],
                    "hypervolume": row["share"],
                    "least": row["least"],
                    "most": row["most"],
                }
                for row in summary["samplers"]
            ],
            {"seconds": 1, "hypervolume": 4, "least": 4, "most": 4},
        )
        first = summary["samplers"][0]
        start = "from the exact front" if first["seeded"] else "from nothing"
        print_note(
            f"hypervolume of a sampler's own designs in parts of the exact front's: median, least "
            f"and most of {first['seeds']} seeds, {start}; samplers.csv has every generation"
        )
    if "trials" in summary and whole:
        alone, merged = (summary[f"hypervolume_{part}"] / whole for part in ("sampler", "merged"))
        print_text(
            f"{summary['sampler']}: its {summary['trials']} designs reach {alone:.4f} of that "
            f"hypervolume, with the exact front as seeds {merged:.4f}"
        )
