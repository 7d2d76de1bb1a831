"""A network's sensitivity profile as it is read: the table that `profile` writes, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from syq_dse import catalogue, cells
from syq_dse.errors import InputError, unknown
from syq_dse.network import Network
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, normal, tensors

KEY = ("item", "weights", "granularity", "scale", "bits")
FIGURES = ("top1", "loss", "mse", "kl")
SETTINGS = ("network", "dataset", "float_sha256", "images", "seed")
"""Columns that say what was measured; they are the same in all rows of a table."""

COLUMNS = (*KEY, *FIGURES, *SETTINGS, "syq_dse", "torch")

FLOAT, REFERENCE = "float", "reference"
"""Items that are no layer and no tensor: the float network, and int8 with 8 bits everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What a profile says of a network.

    Attributes:
        float_top1: 0 to 1, on the profile's images.
        layers: by layer and its choice, the mean divergence of the classes [nats] above that of
            the reference.
        tensors: likewise by tensor and bits.
    """

    network: str
    dataset: str
    float_top1: float
    layers: Mapping[str, Mapping[LayerScheme, float]]
    tensors: Mapping[str, Mapping[int, float]]


def shipped(network: Network, dataset: str) -> Path | None:
    """The profile that is shipped for a network and a data set."""
    path = catalogue.folder("models") / "profiles" / f"{network.name}-{Path(dataset).stem}.csv"
    return path if path.is_file() else None


def load(path: Path, network: Network) -> Sensitivity:
    """A profile of a network.

    Raises:
        InputError: no such file, no profile, of another network, or not complete.
    """
    table = read(path)
    names = table["network"].unique().tolist()
    if names != [network.name]:
        raise InputError(f"{path}: is a profile of '{', '.join(names)}', not '{network.name}'")
    plain, reference = (table[table["item"] == item] for item in (FLOAT, REFERENCE))
    layers: dict[str, dict[LayerScheme, float]] = {node.name: {} for node in network.engines}
    bits: dict[str, dict[int, float]] = {
        t.name: {} for t in tensors(network).values() if t.kind != "result"
    }
    if plain.empty or reference.empty:
        raise InputError(f"{path}: has no row '{FLOAT}' or '{REFERENCE}'; run `profile` again")
    least = float(reference["kl"].iloc[0])
    for row in table.to_dict("records"):
        item, above = str(row["item"]), max(0.0, float(row["kl"]) - least)
        if item in layers:
            choice = LayerScheme(
                weights=row["weights"], granularity=row["granularity"], scale=row["scale"]
            )
            layers[item][normal(network.by_name[item], choice)] = above
        elif item.removeprefix("bits.") in bits:
            bits[item.removeprefix("bits.")][int(row["bits"])] = above
    lacking = [name for name, of in [*layers.items(), *bits.items()] if not of]
    if lacking:
        raise InputError(f"{path}: has no row of '{lacking[0]}'; run `profile` again")
    return Sensitivity(
        network=network.name,
        dataset=str(plain["dataset"].iloc[0]),
        float_top1=float(plain["top1"].iloc[0]),
        layers=layers,
        tensors=bits,
    )


def read(path: Path) -> pd.DataFrame:
    """A profile's table.

    Raises:
        InputError: no such file, or it is no profile.
    """
    try:
        text = dict.fromkeys(("item", "weights", "granularity", "scale", "network"), str)
        table = cells.read_back(pd.read_csv(path, dtype=text, keep_default_na=False))
        lacking = [name for name in COLUMNS if name not in table]
        if lacking:
            raise ValueError(f"it has no column '{lacking[0]}'")
        table = table[list(COLUMNS)]
        figures = table[list(FIGURES)].astype(float)
        if not figures.map(lambda value: 0 <= value < float("inf")).all(axis=None):
            raise ValueError("a figure is negative or no number")
        for name, known in (
            ("weights", WEIGHTS),
            ("granularity", GRANULARITIES),
            ("scale", SCALES),
        ):
            for value in table[name]:
                if value not in ("", *known):
                    raise ValueError(unknown(name, value, known))
        return table.astype(dict.fromkeys(("bits", "images", "seed"), int))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is no profile: {reason}; `profile` writes one") from None
