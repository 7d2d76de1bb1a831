"""report.html: a run as one page that opens from disk, with its plots drawn by Bokeh."""

from __future__ import annotations

import html
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from syq_dse import __version__, records
from syq_dse.errors import InputError, one_line
from syq_dse.report.figures import evenly_with
from syq_dse.report.front_plot import AXES, LOG, PERCENT
from syq_dse.report.resources_plot import LABELS as RESOURCES
from syq_dse.search import run
from syq_dse.search.points import column_of
from syq_dse.search.run import Record

PAGE = "report.html"

MOST_POINTS = 8_000
"""Points of a page; of more, those with a name and so many evenly along the front."""

MOST_ROWS = 15_000
"""Rows of points that are in the page, of layers and of resources; the rest are in points/ID.json.
With MOST_POINTS a page stays under 3 MB, of which Bokeh has 1.3."""

RESOURCE_ROWS = 8
"""What the resources of a point take, in rows of layers."""

LABELS = {
    **RESOURCES,
    "point": "point",
    "accuracy_low": "lowest [%]",
    "accuracy_high": "highest [%]",
    "accuracy_source": "accuracy is",
    "dominated": "dominated",
}

_BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)
"""What fields of another kind do to those who read them."""

SHARES = (*PERCENT, "accuracy_low", "accuracy_high")

DIGITS = 6


def write(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a finished run.

    Args:
        out: the file; None: report.html in the folder.

    Raises:
        InputError: no finished run, or the file cannot be written.
    """
    with run.unchanged(folder):
        front, record = run.read_front(folder), run.read_record(folder)
        try:
            text = page(folder, front, record)
        except _BROKEN as error:
            raise InputError(
                f"{folder / run.FRONT_JSON}: is broken: {one_line(str(error))}; remove it, and "
                "explore --resume makes it again"
            ) from None
    path = out or folder / PAGE
    records.make_folder(path.parent)
    records.write_text(path, text)
    return path


def page(folder: Path, front: Mapping[str, Any], record: Record) -> str:
    """The page as text."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    from syq_dse.report import page_plots

    rows = chosen_rows(front)
    details = read_details(folder, front, rows)
    plots = {"front": page_plots.front_plot(front), **page_plots.heat_maps(rows, details)}
    measured = page_plots.measured_plot(front)
    if measured is not None:
        plots["measured"] = measured
    script, divs = components(plots)
    bokeh = Resources(mode="inline", components=["bokeh"]).render()
    document = _document(folder, front, rows, details)
    files = resources.files("syq_dse.report")
    parts = {name: (files / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    return _TEMPLATE.format(
        title=html.escape(f"{front['network']} on {front['target']}"),
        css=parts["css"],
        bokeh=bokeh,
        head=_head(front, rows),
        hint=f"fps&gt;1000 {'lut&lt;50000' if 'lut' in front['points'][0] else 'knee'}",
        front=divs["front"],
        heat="".join(
            f"<h3>{title}</h3><p class='soft'>{note}</p>{divs[name]}"
            for name, title, note in page_plots.HEAT_MAPS
            if name in divs
        )
        or "<p>No point's layers are in the page.</p>",
        measured=_measured_section(divs.get("measured"), front),
        layer_heads="".join(
            f"<th scope='col' class='{'text' if i < 4 else ''}'>{html.escape(name)}</th>"
            for i, name in enumerate(LAYER_COLUMNS)
        ),
        provenance=_provenance(front),
        again=html.escape("\n".join(_again(folder))),
        version=html.escape(f"syq-dse {record.syq_dse}, page by {__version__}"),
        data=_json(document),
        script=script,
        js=parts["js"],
    )


def chosen_rows(front: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points that a page holds: all, or those with a name and others evenly along the front."""
    rows = list(front["points"])
    ids = [row["point"] for row in rows]
    kept = set(evenly_with(ids, MOST_POINTS, set(front["named"].values())))
    return [row for row in rows if row["point"] in kept]


LAYER_COLUMNS = (
    *("layer", "weights", "granularity", "scale", "input bits", "output bits"),
    *("PE", "SIMD", "cycles"),
)


def read_details(
    folder: Path, front: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Of points, evenly along the front, what points/ID.json says of their layers.

    Raises:
        InputError: a point's file is broken.
    """
    there = {path.stem for path in (folder / run.POINTS).glob("*.json")}
    ids = [str(row["point"]) for row in rows if row["point"] in there]
    if not ids:
        return {}
    named = set(front["named"].values()) & set(ids)
    rows_each = _layers(run.read_point(folder, ids[0])) + RESOURCE_ROWS
    most = max(len(named) + 1, MOST_ROWS // rows_each)
    found = {}
    for name in evenly_with(ids, most, named):
        point = run.read_point(folder, name)
        try:
            found[name] = _details(point)
        except _BROKEN as error:
            raise InputError(
                f"{folder / run.POINTS / name}.json: is broken: {one_line(str(error))}"
            ) from None
    return found


def _layers(point: Mapping[str, Any]) -> int:
    cost = point.get("cost")
    layers = cost.get("layers") if isinstance(cost, dict) else None
    return max(1, len(layers)) if isinstance(layers, list) else 1


def _details(point: Mapping[str, Any]) -> dict[str, Any]:
    cost = point["cost"]
    layers = [
        [
            *(layer["name"], layer.get("weights"), layer.get("granularity"), layer.get("scale")),
            *(layer.get("input_bits"), layer.get("output_bits")),
            *(layer.get("pe"), layer.get("simd"), layer.get("cycles")),
        ]
        for layer in cost["layers"]
    ]
    used = [
        [LABELS.get(name, name), cost["total"][name], cost["capacity"][name], share]
        for name, share in cost["utilization"].items()
        if share is not None and name in cost["total"] and cost["capacity"].get(name)
    ]
    return {"layers": layers, "used": used, "bound": _bound(cost, used)}


def _bound(cost: Mapping[str, Any], used: Sequence[Sequence[Any]]) -> str:
    """What keeps a design from being faster or larger."""
    timed = [layer for layer in cost["layers"] if layer.get("cycles")]
    parts = []
    if timed:
        slowest = max(timed, key=lambda layer: layer["cycles"])
        parts.append(
            f"the slowest layer is {slowest['name']}, {slowest['cycles']:,} cycles an image"
        )
    if used:
        label, _, _, share = max(used, key=lambda row: row[3])
        parts.append(f"the fullest resource is {label}, {100 * share:.3g} %")
    return "; ".join(parts)


def _document(
    folder: Path,
    front: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """What the page's script reads."""
    from syq_dse.report import page_plots

    names = [name for name in rows[0] if any(row.get(name) is not None for row in rows)]
    columns = [
        {
            "name": name,
            "label": LABELS.get(name, name),
            "percent": name in SHARES,
            "text": isinstance(rows[0][name], (str, bool)),
            "axis": name in AXES,
            "log": name in LOG,
        }
        for name in names
    ]
    goals = [column_of(name) for name in front["objectives"]]
    y = "accuracy" if "accuracy" in goals else goals[0]
    x = next((name for name in [*goals, "fps"] if name != y), "fps")
    return {
        "columns": columns,
        "points": [[_short(row.get(name)) for name in names] for row in rows],
        "named": front["named"],
        "details": details,
        "sources": list(page_plots.SOURCES),
        "limit": front["limit"],
        "axes": [x, y],
        "commands": _point_commands(folder, front),
    }


def _short(value: Any) -> Any:
    """A number with the digits that a page shows."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}")
    return value


def _json(document: Any) -> str:
    """JSON that cannot end the script in which it stands."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# Commands


def _point_commands(folder: Path, front: Mapping[str, Any]) -> list[str]:
    """What makes a point a network and hardware; {point} is its id."""
    place = shlex.quote(str(folder))
    lines = [
        f"syq-dse validate {place} --points {{point}}",
        f"syq-dse export {place} --point {{point}} --format qonnx -o exported",
        f"syq-dse verify {place} --point {{point}} --trained",
    ]
    if "area_um2" in front["points"][0]:
        lines[2] += " --liberty CELLS.lib"
    return lines


def _again(folder: Path) -> list[str]:
    """The commands that make the run, and this page, again."""
    place = shlex.quote(str(folder))
    study = shlex.quote(str(folder / "study.toml"))
    another = shlex.quote(f"{folder}-again")
    return [
        f"syq-dse explore --study {study} --out {another}   # all settings once more",
        f"syq-dse explore --resume --out {place}   # goes on where it broke off",
        f"syq-dse report {place}",
    ]


# Sections


def _head(front: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    title = f"{front['network']} on {front['target']}"
    goals = ", ".join(front["objectives"])
    count = len(front["points"])
    shown = "" if len(rows) == count else f"; {len(rows):,} of them are in this page"
    first = (
        f"{count:,} points by {goals}{shown}. Clock {front['clock_mhz']:g} MHz, each resource "
        f"filled to {100 * front['limit']:g} % at most."
    )
    exact = front["summary"].get("hypervolume_exact")
    measured = sum(row["accuracy_source"] == "measured" for row in front["points"])
    second = f"Accuracy: {measured} measured; others {front['accuracy_note']}."
    third = "" if exact is None else f"Hypervolume of the exact front: {exact:.6g}."
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in (first, second, third) if line)
    return f"<h1>{html.escape(title)}</h1>{lines}"


def _measured_section(div: str | None, front: Mapping[str, Any]) -> str:
    if div is not None:
        return f"<p class='soft'>Whiskers are intervals; on the dashed line both agree.</p>{div}"
    return (
        "<p>No point of this run has been measured. <code>syq-dse validate</code> trains points "
        "and puts their accuracies here.</p>"
    )


def _provenance(front: Mapping[str, Any]) -> str:
    sources = {row["accuracy_source"] for row in front["points"]}
    note = front["accuracy_note"]
    kinds = ", ".join(sorted(sources))
    lines = {"accuracy": note if note.startswith(kinds) else f"{kinds}; {note}"}
    lines |= {name: str(text) for name, text in front["provenance"].items()}
    return "".join(
        f"<dt>{html.escape(LABELS.get(name, name))}</dt><dd>{html.escape(text)}</dd>"
        for name, text in lines.items()
    )


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: syq-dse</title>
<style>{css}</style>
{bokeh}
</head>
<body>
<header>{head}</header>
<main>
<section aria-labelledby="h-front"><h2 id="h-front">Front</h2>
<div class="row"><label for="x-axis">x axis</label><select id="x-axis"></select>
<label for="y-axis">y axis</label><select id="y-axis"></select></div>
<p class="soft">Click a point for its layers; drag over points to keep those in the table.</p>
<div class="plot" role="img" aria-label="Scatter plot of the points in the table">{front}</div>
</section>
<section aria-labelledby="point-name"><h2 id="point-name">Point</h2>
<p id="bound"></p>
<div class="bars" id="bars"></div>
<p class="soft">The mark on a bar is the limit.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Layers of the point">
<table id="layers"><caption class="soft">Layers</caption>
<thead><tr>{layer_heads}</tr></thead><tbody></tbody></table></div>
<p id="layers-missing" hidden></p>
<dl id="point-row"></dl>
<p>Train it, take it out, and check it against synthesis:</p>
<pre id="commands"></pre>
</section>
<section aria-labelledby="h-points"><h2 id="h-points">Points</h2>
<div class="row"><label for="filter">Filter</label>
<input id="filter" type="text" placeholder="{hint}">
<button type="button" id="clear">all points</button></div>
<p class="soft" id="filter-note" role="status"></p>
<div class="scroll" tabindex="0" role="region" aria-label="Points of the front">
<table id="points"><caption class="soft">Points; a column's name sorts</caption>
<thead><tr></tr></thead><tbody></tbody></table></div>
<div class="row"><button type="button" id="before">previous page</button>
<span id="page-note"></span><button type="button" id="after">next page</button></div>
</section>
<section aria-labelledby="h-heat"><h2 id="h-heat">Layers along the front</h2>{heat}</section>
<section aria-labelledby="h-measured"><h2 id="h-measured">Expected and measured</h2>
{measured}</section>
<section aria-labelledby="h-from"><h2 id="h-from">Where figures come from</h2>
<dl>{provenance}</dl></section>
<section aria-labelledby="h-again"><h2 id="h-again">Once more</h2><pre>{again}</pre>
<p class="soft">{version}</p></section>
</main>
<script type="application/json" id="data">{data}</script>
{script}
<script>{js}</script>
</body>
</html>
"""
