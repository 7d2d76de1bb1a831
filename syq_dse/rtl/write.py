"""A settled design as files: Verilog, manifest and integers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from syq_dse import records
from syq_dse.cost.design import Settled
from syq_dse.cost.estimate import requant_methods
from syq_dse.cost.pricing import Pricing
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.quant import integer, integer_file
from syq_dse.rtl import emit, engine
from syq_dse.rtl.engine import Engine


def engines(
    pricing: Pricing, network: Network, settled: Settled, integers: Path | None, seed: int
) -> tuple[list[Engine], integer.NetworkIntegers]:
    """The engines of a design, with integers of a file or, without one, random ones.

    Raises:
        InputError: the file does not fit the design, or the design has no hardware.
    """
    methods = requant_methods(pricing, network, settled.scheme, settled.folding)
    if integers is not None:
        found = integer_file.load(integers, network, settled.scheme)
    else:
        found = integer.draw(network, settled.scheme, seed, methods)
    built = engine.build(pricing, network, settled.scheme, settled.interval, settled.folding, found)
    return built, found


def write(
    pricing: Pricing,
    network: Network,
    settled: Settled,
    integers: Path | None,
    seed: int,
    folder: Path,
) -> list[dict[str, Any]]:
    """Write a design into a folder, the manifest last, and return the manifest."""
    built, found = engines(pricing, network, settled, integers, seed)
    texts = emit.files(network, built)
    listed = emit.manifest(network, built)
    records.make_folder(folder)
    _remove_design(folder)
    for name, text in texts.items():
        records.write_text(folder / name, text)
    integer_file.save(folder / "integers.safetensors", found)
    records.write_json(folder / MANIFEST, listed)
    return listed


MANIFEST = "manifest.json"


def _remove_design(folder: Path) -> None:
    """The files of another design: who reads all of a folder would read both.

    The manifest goes first, so that what is left of an interrupted one has none.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))
        names = {Path(str(entry["file"])).name for entry in listed}
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{manifest}: is no manifest of a design; give another folder") from None
    try:
        for path in (manifest, *(folder / name for name in sorted(names))):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
