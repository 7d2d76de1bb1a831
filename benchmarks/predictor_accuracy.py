"""How well accuracies are predicted: schemes that are trained, and what is said of them before.

    python benchmarks/predictor_accuracy.py train --network fmnist-vgg --kind A --schemes 50
    python benchmarks/predictor_accuracy.py train --network fmnist-vgg --kind B --schemes 50
    python benchmarks/predictor_accuracy.py test --network fmnist-vgg

Two kinds of schemes. A: every choice of `explore`'s space is drawn freely. B: the same, but those
only whose bit operations (MACs times bits of weight and activation) are within 2 % of those of
ternary weights and 3 bits throughout: the same bits, placed otherwise. Accuracies are of the
validation part, which search goes by. Results go to docs/predictor.csv, a row a training; what
stands there is not trained again. Folders of the trainings stay in runs/predictor.

`test` fits the predictor to some of them, drawn DRAWS times, and prints means over the draws of
what it says of the others: rank correlations, mean error, share within the 90 % interval. Beside it
stand the number of bits (the logarithms added up), and how well the accuracy of one seed tells that
of another, which is the most that can be reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from trainings import Workers

from syq_dse import network as networks
from syq_dse import records, scheme
from syq_dse.accuracy import predictor, sensitivity
from syq_dse.accuracy.predictor import Trained
from syq_dse.accuracy.sensitivity import Sensitivity
from syq_dse.network import Network
from syq_dse.scheme import LayerScheme, Scheme, fixed_bits, tensors
from syq_dse.search import space

TABLE = Path(__file__).resolve().parent.parent / "docs" / "predictor.csv"
FOLDER = Path("runs") / "predictor"
KEYS = ("network", "dataset", "kind", "number", "seed", "epochs")
COLUMNS = (*KEYS, "top1", "loss", "scheme")
SPACE = space.Space()
SPREAD = 0.02
"""How far from the wanted bit operations a scheme of kind B may be."""


def bit_operations(net: Network, of: Scheme) -> float:
    """MACs times bits of the weight and of the activation, of an image."""
    written = tensors(net)
    return sum(
        node.macs
        * scheme.weight_bits(of.layers[node.name].weights)
        * of.bits[written[node.inputs[0]].name]
        for node in net.engines
    )


def schemes(net: Network, kind: str) -> Iterator[Scheme]:
    """The schemes of a kind, the same each time, none twice."""
    rng = np.random.default_rng([ord(kind), 20181])
    choices = {node.name: space.schemes(SPACE, net, node) for node in net.engines}
    fixed = fixed_bits(net)
    names = [t.name for t in tensors(net).values() if t.kind != "result"]
    wanted = bit_operations(net, scheme.uniform(net, LayerScheme(weights="ternary"), 3))
    seen = set()
    while True:
        drawn = Scheme(
            layers={name: of[rng.integers(len(of))] for name, of in choices.items()},
            bits={
                name: fixed[name] if name in fixed else SPACE.bits[rng.integers(len(SPACE.bits))]
                for name in dict.fromkeys(names)
            },
        )
        key = repr(drawn)
        if key in seen:
            continue
        if kind == "B" and abs(bit_operations(net, drawn) / wanted - 1) > SPREAD:
            continue
        seen.add(key)
        yield drawn


def known() -> pd.DataFrame:
    """The rows that there are."""
    return pd.read_csv(TABLE) if TABLE.is_file() else pd.DataFrame(columns=list(COLUMNS))


def train(
    workers: Workers, network: str, dataset: str, kind: str, count: int, seeds: int, epochs: int
) -> None:
    """Train the first `count` schemes of a kind with seeds 0 to seeds - 1."""
    net = networks.load(network)
    have = {tuple(row) for row in known()[list(KEYS)].itertuples(index=False)}
    drawn = [found for found, _ in zip(schemes(net, kind), range(count), strict=False)]
    wanted = [(net.name, dataset, kind, n, s, epochs) for n in range(count) for s in range(seeds)]
    missing = [key for key in wanted if key not in have]

    def one(key: tuple[str, str, str, int, int, int]) -> dict[str, object]:
        *_, number, seed, _ = key
        name = "-".join(str(part) for part in key)
        path = FOLDER / f"{name}.json"
        FOLDER.mkdir(parents=True, exist_ok=True)
        document = records.plain(scheme.file_of(net, drawn[number]))
        records.write_json(path, document)
        arguments = [
            *("--network", network, "--dataset", dataset, "--scheme", str(path)),
            *("--epochs", str(epochs), "--seed", str(seed), "--measure", "validation"),
            *("--check", "500"),
        ]
        result = workers.train(FOLDER / name, arguments)
        return {**dict(zip(KEYS, key, strict=True)), **result, "scheme": json.dumps(document)}

    for number, row in enumerate(workers.map(one, missing), 1):
        table = pd.DataFrame([*known().to_dict("records"), row], columns=list(COLUMNS))
        records.write_text(TABLE, table.to_csv(index=False))
        print(f"{number}/{len(missing)} {row['top1']:.4f}", file=sys.stderr, flush=True)


DRAWS = 40
COUNTS = (0, 4, 8, 12, 20, 30)


def test(network: str, dataset: str, kind: str, epochs: int) -> None:
    """Print the table of a kind."""
    net = networks.load(network)
    path = sensitivity.shipped(net, dataset)
    assert path is not None, "a network with a shipped profile"
    profile = sensitivity.load(path, net)
    rows = known()
    for name, value in {"network": net.name, "kind": kind, "epochs": epochs}.items():
        rows = rows[rows[name] == value]
    seeds = rows.pivot_table(index="number", columns="seed", values="top1").dropna()
    texts = rows.groupby("number")["scheme"].first()[seeds.index]
    trained = [
        Trained(
            scheme=scheme.read(net, json.loads(text), "docs/predictor.csv"),
            top1=float(top1),
            seeds=seeds.shape[1],
        )
        for text, top1 in zip(texts, seeds.mean(axis=1), strict=True)
    ]
    print(f"{net.name}, {kind}: {len(trained)} schemes, {seeds.shape[1]} seeds, {epochs} epochs")
    if seeds.shape[1] > 1:
        pair = stats.spearmanr(seeds.iloc[:, 0], seeds.iloc[:, 1]).statistic
        scatter = 100 * float(seeds.std(axis=1, ddof=1).mean())
        print(f"one seed against another: {pair:.3f}; scatter of a seed {scatter:.2f} points")
    print("| trained | Spearman | Kendall | best fifth | error | in 90 % | Spearman of bits |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count in COUNTS:
        if len(trained) - count < 8:
            break
        draws = range(DRAWS if count else 1)
        found = np.array([draw(profile, trained, count, seed) for seed in draws])
        mean = np.nanmean(found, axis=0)
        print(
            f"| {count} | {mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.2f} | {100 * mean[3]:.2f} | "
            f"{100 * mean[4]:.0f} % | {mean[5]:.3f} |"
        )


def draw(profile: Sensitivity, trained: list[Trained], count: int, seed: int) -> list[float]:
    """Of those that the predictor was not fitted to."""
    order = np.random.default_rng(seed).permutation(len(trained))
    fitted = predictor.fit(profile, [trained[i] for i in order[:count]])
    others = [trained[i] for i in order[count:]]
    said, half = np.array([fitted.accuracy(one.scheme) for one in others]).T
    top1 = np.array([one.top1 for one in others])
    best = np.argsort(-top1)[: max(3, round(0.2 * len(top1)))]
    return [
        stats.spearmanr(said, top1).statistic,
        stats.kendalltau(said, top1).statistic,
        stats.spearmanr(said[best], top1[best]).statistic,
        float(np.abs(said - top1).mean()),
        float((np.abs(said - top1) <= half).mean()),
        stats.spearmanr([bits(one.scheme) for one in others], top1).statistic,
    ]


def bits(of: Scheme) -> float:
    """Logarithms of the bits of all weights and tensors, added up."""
    weights = sum(np.log2(scheme.weight_bits(layer.weights)) for layer in of.layers.values())
    return float(weights + np.log2(list(of.bits.values())).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="test", choices=["train", "test"])
    parser.add_argument("--network", default="fmnist-vgg", help="a name or a TOML file")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--kind", choices=["A", "B"], default="A")
    parser.add_argument("--schemes", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    asked = parser.parse_args()
    if asked.what == "test":
        test(asked.network, asked.dataset, asked.kind, asked.epochs)
        return
    workers = Workers(jobs=asked.jobs, device=asked.device)
    train(
        workers, asked.network, asked.dataset, asked.kind, asked.schemes, asked.seeds, asked.epochs
    )


if __name__ == "__main__":
    main()
