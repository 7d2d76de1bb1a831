"""`syq-dse explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from syq_dse import network, records, target
from syq_dse.cli.output import print_json, print_table, progress_bar
from syq_dse.errors import InputError


@click.command()
@click.option("--target", "board", help="A shipped board or a TOML file.")
@click.option("--network", "name", help="A shipped network or a TOML file.  [default: fmnist-vgg]")
@click.option("--study", "study_file", type=click.Path(path_type=Path), help="Settings as TOML.")
@click.option("--objective", "objectives", multiple=True, help="Repeat for each.  [accuracy, fps]")
@click.option("--fps", type=float, help="Least images a second.")
@click.option("--limit", type=float, help="Share of each resource to fill at most.  [default: 0.8]")
@click.option("--clock", "clock_mhz", type=float, help="Clock [MHz]; default: the board's.")
@click.option("--sampler", help="exact, nsga2, nsga3, tpe, gp or random.  [default: exact]")
@click.option("--trials", type=int, help="Designs that the sampler proposes.  [default: 2000]")
@click.option("--seed", type=int, help="Seed of the sampler.  [default: 0]")
@click.option("--weights", help="Codebooks to search, with commas.")
@click.option("--granularity", help="Granularities to search, with commas.")
@click.option("--scale", help="Scale formats to search, with commas.")
@click.option("--bits", help="Activation precisions to search, with commas.")
@click.option("--intervals", type=int, help="Points of the grid of intervals.  [by network size]")
@click.option("--storage", metavar="URL", help="Optuna storage; default: a journal in the run folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [runs/NETWORK-TARGET]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    study_file: Path | None,
    storage: str | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Search precision and granularity; leave a run folder with a Pareto front.

    \b
    Example: syq-dse explore --network cnv --target pynq-z1 --bits 1,2,4 --fps 1000
    """
    from syq_dse.report import front_plot
    from syq_dse.search import run

    if resume and out is None:
        raise click.UsageError("--resume needs the run's folder: --out runs/NAME")
    study = _study(study_file, given, out if resume else None)
    net, board = network.load(study.network), target.load(study.target)
    folder = out or run.free_folder(Path("runs"), f"{net.name}-{board.name}")
    with progress_bar() as progress:
        result = run.explore(study, folder, storage, resume, progress)
        plots = front_plot.draw_run(folder, folder)
    if as_json:
        print_json(run.read_front(folder))
        return
    _print(run.read_front(folder), [str(plot) for plot in plots], result.folder)


def _study(study_file: Path | None, given: dict[str, Any], resumed: Path | None) -> Any:
    """The study of the options, over those of a file or of the run that is resumed."""
    from syq_dse.search import run
    from syq_dse.search.study import Study

    data: dict[str, Any] = {}
    place = "explore"
    if study_file is not None:
        data, place = records.read(study_file), str(study_file)
    elif resumed is not None:
        data = records.plain(run.read_record(resumed).study)
    names = {"board": "target", "name": "network"}
    spaces = ("weights", "granularity", "scale", "bits", "intervals")
    set_here = {k: v for k, v in given.items() if v is not None and v != ()}
    options = {names.get(k, k): v for k, v in set_here.items() if k not in spaces}
    space = {k: v if k == "intervals" else _list(k, v) for k, v in set_here.items() if k in spaces}
    merged = {**data, **options}
    if space:
        merged["space"] = {**merged.get("space", {}), **space}
    if "target" not in merged:
        raise click.UsageError("--target is missing; `syq-dse targets` lists the boards")
    return records.structure(merged, Study, place)


def _list(name: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(",")]
    if name != "bits":
        return parts
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--bits must be numbers with commas, got '{text}'")
    return [int(part) for part in parts]


MOST_ROWS = 20
"""Points that the terminal shows; front.csv has all."""


def _print(found: dict[str, Any], plots: list[str], folder: Path) -> None:
    rows = found["points"]
    step = max(1, -(-len(rows) // MOST_ROWS))
    named: dict[str, list[str]] = {}
    for name, point in found["named"].items():
        named.setdefault(point, []).append(name)
    shown = [r for i, r in enumerate(rows) if i % step == 0 or r["point"] in named]
    columns = ("point", "accuracy", "fps", "latency_us", "lut", "dsp", "bram18", "utilization")
    print_table(
        [
            {**{c: row[c] for c in columns}, "": ", ".join(named.get(row["point"], []))}
            for row in shown
        ]
    )
    if len(shown) < len(rows):
        click.echo(f"{len(shown)} of {len(rows)} points; all are in front.csv")
    summary = found["summary"]
    kind = "exact" if summary["exact"] else "near-exact (further objectives at a grid of bounds)"
    click.echo(f"{kind} front of the priced space, hypervolume {summary['hypervolume_exact']:.6g}")
    if "hypervolume_sampler" in summary and summary["hypervolume_exact"]:
        whole = summary["hypervolume_exact"]
        click.echo(
            f"{summary['sampler']}: {summary['trials']} trials, its own designs reach "
            f"{summary['hypervolume_sampler'] / whole:.4f} of it, with the seeds "
            f"{summary['hypervolume_merged'] / whole:.4f}"
        )
    click.echo(f"accuracy: {found['accuracy_note']}")
    click.echo(f"lut: {found['provenance']['lut']}")
    click.echo(f"run: {folder}  plots: {', '.join(plots)}")
