"""Accuracy of layer-, row-, pixel- and channel-wise scales: what docs/granularity.md shows.

    python benchmarks/granularity_accuracy.py --network lenet5 --epochs 3 --seeds 5 --jobs 2
    python benchmarks/granularity_accuracy.py --network benchmarks/networks/lenet5-plain.toml \
        --bits 4 --decay 0.3

Where no float network is shipped one is trained first, with the best of three rates. For each
codebook and each precision of activations the learning rate is chosen next, with scales of layers
and seed 0. Both choices are made on the validation part. All granularities are then trained with
that rate and several seeds, and measured on the test images. Results go to docs/granularity.csv,
a row a training; what stands there is not trained again. The trainings' folders stay in
runs/granularity.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import tomli_w
from scipy import stats
from trainings import Workers

from syq_dse import network as networks
from syq_dse import records
from syq_dse.quant.scales import mean_magnitude
from syq_dse.scheme import Granularity
from syq_dse.train import recipe, run

TABLE = Path(__file__).resolve().parent.parent / "docs" / "granularity.csv"
FOLDER = Path("runs") / "granularity"
CODEBOOKS = ("binary", "ternary")
GRANULARITIES: tuple[Granularity, ...] = ("layer", "row", "pixel", "channel")
RATES = {"float": (5e-4, 2e-3, 8e-3), "modern": (1e-3, 4e-3, 1.5e-2)}


@dataclass(frozen=True, kw_only=True)
class Start:
    """A float network: the shipped one, or one trained here with a weight decay."""

    network: str  # a name or a file
    dataset: str
    epochs: int = 0  # 0: the shipped one
    decay: float = 0.0
    rate: float = 0.0

    @property
    def name(self) -> str:
        return "-".join([Path(self.network).stem, *map(str, list(asdict(self).values())[1:])])

    @property
    def path(self) -> Path:
        """The file with its tensors."""
        if not self.epochs:
            return run.float_checkpoint(networks.load(self.network), self.dataset)
        return FOLDER / self.name / run.MODEL


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of the study; its fields are the keys of the table."""

    network: str  # its name
    dataset: str
    decay: float  # of the float network; 0: the shipped one
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


KEYS = tuple(Cell.__dataclass_fields__)


def recipe_file(base: str, rate: float, decay: float = 0.0) -> Path:
    """A shipped recipe at another rate and weight decay."""
    path = FOLDER / f"{base}-{rate:g}-{decay:g}.toml"
    FOLDER.mkdir(parents=True, exist_ok=True)
    own = replace(recipe.load(base), name=path.stem, learning_rate=rate, decay=decay)
    values = {k: v for k, v in records.plain(own).items() if v is not None}
    records.write_text(path, tomli_w.dumps(values))
    return path


def quantised(workers: Workers, start: Start, cell: Cell) -> dict[str, object]:
    """The row of the table."""
    arguments = [
        *("--network", start.network, "--dataset", cell.dataset),
        *("--uniform", f"{cell.weights},{cell.bits},{cell.granularity}"),
        *("--recipe", str(recipe_file("modern", cell.rate)), "--epochs", str(cell.epochs)),
        *("--seed", str(cell.seed), "--measure", cell.part, "--pretrained", str(start.path)),
    ]
    return {**asdict(cell), **workers.train(FOLDER / cell.name, arguments)}


def best_start(workers: Workers, network: str, dataset: str, epochs: int, decay: float) -> Start:
    """The float network with the best rate."""
    tries = [
        Start(network=network, dataset=dataset, epochs=epochs, decay=decay, rate=rate)
        for rate in RATES["float"]
    ]

    def top1(start: Start) -> float:
        arguments = [
            *("--network", network, "--dataset", dataset, "--float", "--epochs", str(epochs)),
            *("--recipe", str(recipe_file("float", start.rate, decay)), "--measure", "validation"),
        ]
        found = workers.train(FOLDER / start.name, arguments)["top1"]
        print(f"float, rate {start.rate:g}: {found:.4f}", file=sys.stderr, flush=True)
        return found

    found = list(workers.map(top1, tries))
    return tries[int(np.argmax(found))]


def known() -> pd.DataFrame:
    """The rows that there are."""
    if not TABLE.is_file():
        return pd.DataFrame(columns=[*KEYS, "top1", "loss"])
    return pd.read_csv(TABLE)


def complete(workers: Workers, start: Start, cells: list[Cell]) -> pd.DataFrame:
    """The table with rows of all cells, which are trained where they are missing."""
    have = {tuple(row) for row in known()[list(KEYS)].itertuples(index=False)}
    missing = [cell for cell in cells if tuple(asdict(cell).values()) not in have]
    rows = workers.map(lambda cell: quantised(workers, start, cell), missing)
    for number, row in enumerate(rows, 1):
        table = pd.DataFrame([*known().to_dict("records"), row])
        records.write_text(TABLE, table.to_csv(index=False))
        print(f"{number}/{len(missing)} {row['top1']:.4f}", file=sys.stderr, flush=True)
    return known()


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def study(workers: Workers, start: Start, bits: list[int], epochs: int, seeds: int) -> None:
    name = networks.load(start.network).name
    kinds = list(itertools.product(CODEBOOKS, bits))

    def cell(
        weights: str, bits: int, granularity: str, rate: float, seed: int, part: str = "test"
    ) -> Cell:
        return Cell(
            network=name,
            dataset=start.dataset,
            decay=start.decay,
            weights=weights,
            bits=bits,
            granularity=granularity,
            rate=rate,
            epochs=epochs,
            seed=seed,
            part=part,
        )

    tries = [
        cell(*kind, "layer", rate, 0, "validation") for kind in kinds for rate in RATES["modern"]
    ]
    table = select(complete(workers, start, tries), network=name, decay=start.decay, epochs=epochs)
    rates = {}
    for weights, width in kinds:
        own = select(table, weights=weights, bits=width, part="validation")
        rates[weights, width] = float(own.loc[own["top1"].idxmax(), "rate"])
    wanted = [
        cell(*kind, granularity, rates[kind], seed)
        for seed in range(seeds)
        for kind in kinds
        for granularity in GRANULARITIES
    ]
    table = select(complete(workers, start, wanted), network=name, decay=start.decay, epochs=epochs)
    print("\n".join(lines(table, f"{name}, {epochs} epochs", rates)))
    print("\n".join(profile(start)))


def lines(table: pd.DataFrame, title: str, rates: dict[tuple[str, int], float]) -> Iterator[str]:
    """The table of docs/granularity.md: means, and differences from layer paired by seed."""
    compared = " | ".join(f"{granularity} - layer" for granularity in GRANULARITIES[1:])
    yield f"| {title} | rate | layer | {compared} |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for (weights, bits), rate in rates.items():
        own = select(table, weights=weights, bits=bits, rate=rate, part="test").pivot_table(
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


def profile(start: Start) -> Iterator[str]:
    """How far mean|W| of the float network's subgroups are apart: deviation over mean."""
    found = networks.load(start.network)
    state = run.load_float(start.path, found)
    weighted = [node.name for node in found.engines if node.has_weights]
    for name in weighted[1:-1]:
        weight = state[f"{name}/weight"]
        means = {kind: mean_magnitude(weight, kind) for kind in GRANULARITIES[1:]}
        spread = {
            kind: float(value.std(correction=0) / value.mean()) for kind, value in means.items()
        }
        yield f"{name}: mean|W| varies by " + ", ".join(f"{k} {v:.1%}" for k, v in spread.items())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="lenet5", help="a name or a TOML file")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 4, 8], help="of activations")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--float-epochs", type=int, default=0, help="0: the shipped float network")
    parser.add_argument("--decay", type=float, default=0.01, help="of the float network")
    asked = parser.parse_args()
    workers = Workers(jobs=asked.jobs, device=asked.device)
    start = Start(network=asked.network, dataset=asked.dataset)
    if asked.float_epochs:
        start = best_start(workers, asked.network, asked.dataset, asked.float_epochs, asked.decay)
    study(workers, start, asked.bits, asked.epochs, asked.seeds)


if __name__ == "__main__":
    main()
