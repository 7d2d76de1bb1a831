"""Accuracy of layer-, row-, pixel- and channel-wise scales: what docs/granularity.md shows.

    python benchmarks/granularity_accuracy.py --network lenet5 --epochs 3 --seeds 5 --jobs 2

For each codebook and each precision of activations the learning rate is chosen first, with scales
of layers, seed 0, on the validation part. All granularities are then trained with that rate and
several seeds, and measured on the test images. Results go to docs/granularity.csv, a row a
training; what stands there is not trained again. The trainings' folders stay in runs/granularity.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import tomli_w
from scipy import stats

from syq_dse import records
from syq_dse.search.validation import MALLOC
from syq_dse.train import recipe

TABLE = Path(__file__).resolve().parent.parent / "docs" / "granularity.csv"
FOLDER = Path("runs") / "granularity"
CODEBOOKS, BITS = ("binary", "ternary"), (2, 4, 8)
GRANULARITIES = ("layer", "row", "pixel", "channel")
RATES = (1e-3, 4e-3, 1.5e-2)
KEYS = ("network", "dataset", "weights", "bits", "granularity", "rate", "epochs", "seed", "part")


@dataclass(frozen=True)
class Run:
    """One training."""

    network: str
    dataset: str
    weights: str
    bits: int
    granularity: str
    rate: float
    epochs: int
    seed: int
    part: str

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


def recipe_file(rate: float) -> Path:
    """The modern recipe at another rate."""
    path = FOLDER / f"modern-{rate:g}.toml"
    FOLDER.mkdir(parents=True, exist_ok=True)
    own = replace(recipe.load("modern"), name=f"modern-{rate:g}", learning_rate=rate)
    values = {k: v for k, v in records.plain(own).items() if v is not None}
    records.write_text(path, tomli_w.dumps(values))
    return path


def train(run: Run) -> dict[str, object]:
    """Train in a process of its own; the row of the table."""
    command = [
        *(sys.executable, "-m", "syq_dse", "train", "--network", run.network),
        *("--dataset", run.dataset, "--uniform", f"{run.weights},{run.bits},{run.granularity}"),
        *("--recipe", str(recipe_file(run.rate)), "--epochs", str(run.epochs)),
        *("--seed", str(run.seed), "--measure", run.part, "--json"),
        *("-o", str(FOLDER / run.name)),
    ]
    environment = {"GLIBC_TUNABLES": MALLOC, **os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{run.name}: {done.stderr.splitlines()[-1]}")
    result = json.loads(done.stdout)
    return {**asdict(run), "top1": result["top1"], "loss": result["loss"]}


def known() -> pd.DataFrame:
    """The rows that there are."""
    if not TABLE.is_file():
        return pd.DataFrame(columns=[*KEYS, "top1", "loss"])
    return pd.read_csv(TABLE)


def complete(runs: list[Run], jobs: int) -> pd.DataFrame:
    """The table with rows of all runs, which are trained where they are missing."""
    table = known()
    have = {tuple(row) for row in table[list(KEYS)].itertuples(index=False)}
    missing = [run for run in runs if tuple(asdict(run).values()) not in have]
    with ThreadPoolExecutor(jobs) as pool:
        for number, row in enumerate(pool.map(train, missing), 1):
            table = pd.DataFrame([*table.to_dict("records"), row])
            records.write_text(TABLE, table.to_csv(index=False))
            print(f"{number}/{len(missing)} {row['top1']:.4f}", file=sys.stderr, flush=True)
    return table


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def study(network: str, dataset: str, epochs: int, seeds: int, jobs: int) -> None:
    cells = list(itertools.product(CODEBOOKS, BITS))
    tries = [
        Run(network, dataset, weights, bits, "layer", rate, epochs, 0, "validation")
        for weights, bits in cells
        for rate in RATES
    ]
    table = complete(tries, jobs)
    rates = {}
    for weights, bits in cells:
        own = select(
            table, network=network, weights=weights, bits=bits, epochs=epochs, part="validation"
        )
        rates[weights, bits] = float(own.loc[own["top1"].idxmax(), "rate"])
    wanted = [
        Run(
            network, dataset, weights, bits, granularity, rates[weights, bits], epochs, seed, "test"
        )
        for seed in range(seeds)
        for weights, bits in cells
        for granularity in GRANULARITIES
    ]
    table = complete(wanted, jobs)
    print("\n".join(lines(table, network, epochs, rates)))


def lines(
    table: pd.DataFrame, network: str, epochs: int, rates: dict[tuple[str, int], float]
) -> Iterator[str]:
    """The table of docs/granularity.md: means, and differences from layer paired by seed."""
    compared = " | ".join(f"{granularity} - layer" for granularity in GRANULARITIES[1:])
    yield f"| {network}, {epochs} epochs | rate | layer | {compared} |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for (weights, bits), rate in rates.items():
        own = select(table, network=network, weights=weights, bits=bits, epochs=epochs)
        own = select(own, rate=rate, part="test").pivot_table(
            index="seed", columns="granularity", values="top1"
        )
        cells = [f"{weights} x {bits}", f"{rate:g}", shown(100 * own["layer"].to_numpy(), "")]
        for granularity in GRANULARITIES[1:]:
            apart = 100 * (own[granularity] - own["layer"]).dropna().to_numpy()
            cells.append(shown(apart, "+"))
        yield f"| {' | '.join(cells)} |"


def shown(values: npt.NDArray[np.float64], sign: str) -> str:
    """Mean and the half width of Student's 95 % interval; in bold where that leaves out zero."""
    half = float(stats.t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / math.sqrt(len(values))
    text = f"{values.mean():{sign}.2f} +- {half:.2f}"
    return f"**{text}**" if sign and abs(values.mean()) > half else text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="lenet5")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    study(asked.network, asked.dataset, asked.epochs, asked.seeds, asked.jobs)


if __name__ == "__main__":
    main()
