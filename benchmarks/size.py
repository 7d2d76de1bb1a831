"""Large runs: a network of a thousand layers, and a front of fifty thousand points.

    python benchmarks/size.py 1000 50000

Each command is a process of its own: its seconds and the most memory that it had, to be less than
2 GB. The page of the front has to stay under 3 MB. The front is that of a small run with its points
repeated at other figures, each with its own file; exploring is not what makes so many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MOST_MB, MOST_PAGE_MB = 2000, 3


def deep(layers: int) -> str:
    """The file of a plain network: convolutions of 8 channels on 16x16, then classes."""
    convs = [
        f'  {{ name = "conv{i}", op = "conv", c_out = 8, k = 3, pad = 1 }},'
        for i in range(layers - 2)
    ]
    return "\n".join(
        [
            'name = "deep"\nprovenance = "made up"\nclasses = 10\ninput = [3, 16, 16]',
            'recipe = { dataset = "cifar10" }\nlayers = [',
            *convs,
            '  { name = "flat", op = "flatten" },',
            '  { name = "fc", op = "dense", c_out = 10, relu = false },\n]',
        ]
    )


def wide(run: Path, points: int) -> None:
    """Give a run so many points."""
    front = json.loads((run / "front.json").read_text())
    first = front["points"][0]
    document = json.loads((run / "points" / f"{first['point']}.json").read_text())
    rows: list[dict[str, Any]] = []
    for i in range(points):
        share = i / points
        row = {**first, "point": f"p{i + 1:05d}", "accuracy": 0.95 - 0.4 * share}
        row |= {"fps": 1000.0 + 10 * i, "lut": 1000 + i, "accuracy_low": 0.5 - 0.4 * share}
        rows.append(row)
        (run / "points" / f"{row['point']}.json").write_text(
            json.dumps({**document, "point": row["point"]})
        )
    named = {name: rows[i * points // 5]["point"] for i, name in enumerate(front["named"])}
    (run / "front.json").write_text(json.dumps({**front, "points": rows, "named": named}))


def measured(*arguments: str, cwd: Path) -> tuple[float, float]:
    """Seconds and the most megabytes of a command."""
    start = time.monotonic()
    with open(os.devnull, "wb") as nowhere:
        child = subprocess.Popen(
            [sys.executable, "-m", "syq_dse", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=nowhere,
        )
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: status {status}")
    seconds, megabytes = time.monotonic() - start, usage.ru_maxrss / 1024
    cpu = usage.ru_utime + usage.ru_stime
    verdict = "ok" if megabytes < MOST_MB else "TOO MUCH"
    print(
        f"{' '.join(arguments)}: {seconds:.0f} s ({cpu:.0f} s of a processor), {megabytes:.0f} MB "
        f"of {MOST_MB}: {verdict}",
        flush=True,
    )
    return seconds, megabytes


def main(layers: int = 1000, points: int = 50_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        small = ("--bits", "2,4", "--weights", "binary,int4", "--intervals", "4")
        if points:
            explore = ("explore", "--network", "lenet5", "--target", "zcu102", *small)
            measured(*explore, "--out", "wide", cwd=place)
            wide(place / "wide", points)
            for command in ("plot", "report"):
                measured(command, "wide", cwd=place)
            measured("plot", "wide", "--figure", "all", "-o", "plots", cwd=place)
            measured("compare", "wide", "wide", "--json", cwd=place)
            measured("export", "wide", "--point", "knee", "-o", "out", cwd=place)
            page = (place / "wide" / "report.html").stat().st_size / 1e6
            print(f"page of {points} points: {page:.2f} MB of {MOST_PAGE_MB}")
        if layers:
            (place / "deep.toml").write_text(deep(layers))
            uniform = ("--uniform", "ternary,2,layer")
            board = ("--network", "deep.toml", "--target", "u250")
            measured("estimate", *board, *uniform, cwd=place)
            measured("explore", *board, "--out", "deep", cwd=place)
            measured("plot", "deep", "--figure", "all", "-o", "deep-plots", cwd=place)
            measured("report", "deep", cwd=place)
            page = (place / "deep" / "report.html").stat().st_size / 1e6
            print(f"page of {layers} layers: {page:.2f} MB of {MOST_PAGE_MB}")


if __name__ == "__main__":
    own = [int(word) for word in sys.argv[1:]]
    main(*own) if own else main(60, 2000)
