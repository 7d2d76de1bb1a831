"""Checkpoints: tensors and a JSON document in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from syq_dse import records
from syq_dse.errors import InputError

DOCUMENT = "syq-dse"
"""Key of the JSON document in the file's header."""


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Raises:
        InputError: the file cannot be written; one that was there stays.
    """
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(records.plain(document), allow_nan=False)
    records.write_bytes(path, safetensors.torch.save(whole, {DOCUMENT: text}))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the document of a checkpoint.

    Raises:
        InputError: the file is missing, cut, or no checkpoint of this program.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(DOCUMENT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: is cut or no safetensors file: {error}") from None
    if text is None:
        raise InputError(f"{path}: is no checkpoint of syq-dse; its header has no '{DOCUMENT}'")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: header: is broken JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: header: must be a table")
    return tensors, document


def load_foreign(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of torch.save, read without its pickled code.

    Raises:
        InputError: the file is missing, broken, or holds anything but tensors.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # torch names no narrower class for what a file can do to it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as weights: {reason}") from None
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path}: must hold a state_dict, names and tensors")
    return {str(name): value for name, value in found.items()}
