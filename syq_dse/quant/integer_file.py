"""Integers as a file: safetensors, one tensor of int64 a field, named layer/field."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from syq_dse import records
from syq_dse.errors import InputError, one_line, unknown
from syq_dse.network import Network
from syq_dse.quant.integer import (
    AddIntegers,
    Integers,
    LayerIntegers,
    NetworkIntegers,
    check,
    check_array,
    kinds_of,
)
from syq_dse.scheme import Scheme


def save(path: Path, integers: NetworkIntegers) -> None:
    """Write the integers, at once or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, npt.NDArray[np.int64]] = {}
    for name, own in integers.layers.items():
        for field in fields(own):
            value = getattr(own, field.name)
            if value is not None:
                arrays[f"{name}/{field.name}"] = np.array(value, np.int64, order="C")
    records.write_bytes(path, safetensors.numpy.save(arrays))


def load(path: Path, network: Network, scheme: Scheme) -> NetworkIntegers:
    """Read what `save` wrote, and hold it against the network and the scheme.

    Raises:
        InputError: the file is missing, broken, or does not fit the network and the scheme.
    """
    place = path.name
    found = _arrays(path)
    kinds = kinds_of(network)
    values: dict[str, dict[str, Any]] = {}
    for key, array in found.items():
        name, _, field = key.rpartition("/")
        if name not in kinds:
            raise InputError(f"{place}: {unknown('layer', name, kinds)}")
        at, known = f"{place}: {one_line(name)}", [f.name for f in fields(kinds[name])]
        if field not in known:
            raise InputError(f"{at}: {unknown('field', field, known)}")
        if not np.issubdtype(array.dtype, np.integer) or array.dtype == np.uint64:
            raise InputError(f"{at}: {field} must be signed integers, got {array.dtype}")
        values.setdefault(name, {})[field] = array.astype(np.int64)
    layers = {
        name: _record(f"{place}: {one_line(name)}", kinds[name], own)
        for name, own in values.items()
    }
    integers = NetworkIntegers(layers=layers)
    check(network, scheme, integers, place)
    return integers


SCALARS = ("gain", "shift")


def _record(at: str, kind: type[Integers], values: dict[str, Any]) -> Integers:
    for field in SCALARS:
        if field in values:
            check_array(at, field, values[field], ())
            values[field] = int(values[field])
    if kind is AddIntegers and "shifts" in values:
        check_array(at, "shifts", values["shifts"], (2,))
        values["shifts"] = tuple(values["shifts"].tolist())
    needed = ("codes", "mantissas") if kind is LayerIntegers else [f.name for f in fields(kind)]
    for field in needed:
        if field not in values:
            raise InputError(f"{at}: {field} is missing")
    return kind(**values)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return safetensors.numpy.load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is cut or no safetensors file: {error}") from None
