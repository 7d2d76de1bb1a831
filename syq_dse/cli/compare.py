"""`syq-dse compare`."""

from __future__ import annotations

from pathlib import Path

import click

from syq_dse import records
from syq_dse.cli.output import print_json, print_note, print_table, print_text
from syq_dse.cli.paths import PATH

SHOWN = ("accuracy", "fps", "latency_us", "lut", "dsp", "bram18", "area_um2", "energy_uj")


@click.command()
@click.argument("run", type=PATH)
@click.argument("other", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(run: Path, other: Path, as_json: bool) -> None:
    """Set two runs beside each other: settings, fronts, and the points with a name.

    \b
    Example: syq-dse compare runs/fmnist-vgg-zcu102 runs/cnv-pynq-z1
    """
    from syq_dse.report import comparison

    found = comparison.compare(run, other)
    if as_json:
        print_json(records.plain(found))
        return
    for line in found.settings:
        print_text(line)
    print_note(
        f"by {', '.join(found.objectives)}. hypervolume: in percent of that of both fronts "
        "together; covered: points that some point of the other front equals or beats in all"
    )
    print_table(
        [
            {
                "run": str(folder),
                "points": found.points[i],
                "hypervolume %": 100 * found.hypervolume[i],
                "covered %": 100 * found.covered[i],
            }
            for i, folder in enumerate((run, other))
        ],
        {"hypervolume %": 1, "covered %": 1},
    )
    same = run.name == other.name
    labels = [str(folder) if same else folder.name for folder in (run, other)]
    rows = []
    for name, both in found.named.items():
        for label, row in zip(labels, both, strict=True):
            kept = {key: row.get(key) for key in SHOWN if any(key in one for one in both)}
            rows.append({"point": name, "run": label, **kept})
    columns = [key for key in SHOWN if any(key in row for row in rows)]
    shown = ("point", "run", *columns)
    print_table([{_title(key): row.get(key) for key in shown} for row in rows])


def _title(column: str) -> str:
    return column.replace("_", " ").replace(" uj", " uJ")
