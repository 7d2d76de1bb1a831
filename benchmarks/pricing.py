"""Whole designs priced a second, against the bare gather of the same bytes.

    taskset -c 0 python benchmarks/pricing.py [NETWORK] [TARGET]

The limit: every factor's row of every design must be read once from the table. The bare gather does
that and nothing else, with the same rows in the same order.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from syq_dse import network, target
from syq_dse.cost import fpga, table
from syq_dse.search.space import Space, build

DESIGNS = 1_000_000
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call on one thread [s]: neighbours on the machine do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rows_of(made: table.Table, designs: np.ndarray) -> list[np.ndarray]:
    """The row of each factor's table that each design needs."""
    found = []
    for axes in made.axes:
        index = np.zeros(len(designs), np.int64)
        for column, size in axes:
            index = index * size + designs[:, column]
        found.append(index)
    return found


def gather(made: table.Table, rows: list[np.ndarray]) -> None:
    """Read the rows of all designs, a chunk at a time."""
    for start in range(0, DESIGNS, table.CHUNK):
        part = slice(start, start + table.CHUNK)
        for flat, index in zip(made.flat, rows, strict=True):
            np.take(flat, index[part], axis=0, mode="clip")


def main() -> None:
    name, board = (*sys.argv[1:], "resnet18", "zcu102")[:2] if len(sys.argv) < 3 else sys.argv[1:3]
    made = build(Space(), network.load(name), fpga.pricing(target.load(board)))
    generator = np.random.default_rng(0)
    sizes = np.asarray(made.sizes)[:, None]
    designs = generator.integers(0, sizes, (len(sizes), DESIGNS), dtype=np.int32).T
    rows = rows_of(made, designs)
    priced, bare = [], []
    for _ in range(REPEATS):  # interleaved: both see the same neighbours on the machine
        priced.append(seconds(lambda: table.price(made, designs)))
        bare.append(seconds(lambda: gather(made, rows)))
    ratio = statistics.median(p / b for p, b in zip(priced, bare, strict=True))
    size = sum(flat.nbytes for flat in made.flat) / 1e6
    print(f"{name} on {board}: {len(made.factors)} factors, table of {size:.0f} MB")
    print(f"designs a second: {DESIGNS / statistics.median(priced):.3g} (wanted: 1e6)")
    print(f"time / bare gather of the same rows: {ratio:.2f} (wanted: at most 2)")


if __name__ == "__main__":
    main()
