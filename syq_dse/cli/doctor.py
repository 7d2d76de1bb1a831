"""`syq-dse doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from syq_dse import __version__, catalogue, records
from syq_dse.cli.output import print_json, print_note, print_table
from syq_dse.errors import InputError

CORE = ("numpy", "scipy", "pandas", "matplotlib", "optuna", "moocore", "bokeh", "safetensors")

EXTRAS = {
    "train": ("torch", "pillow"),
    "rtl": ("amaranth", "pyosys"),
    "onnx": ("onnx",),
    "postgresql": ("psycopg",),
    "grpc": ("grpcio",),
}
"""Packages of each extra."""

PROGRAMS = {"iverilog": "simulation of Verilog in tests"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """Say what is installed and what is missing: versions, Yosys, GPU, data sets, storage.

    \b
    Example: syq-dse doctor
    """
    rows = [*_versions(), *_programs(), _gpu(), *_data(), *_storage()]
    if as_json:
        print_json(rows)
        return
    print_table(rows)
    missing = [row["what"] for row in rows if row["state"] == "broken"]
    if missing:
        raise InputError(f"broken: {', '.join(missing)}; see the table above")
    print_note("What is missing is needed by some commands only.")


def _row(what: str, state: str, detail: str) -> dict[str, Any]:
    return {"what": what, "state": state, "detail": detail}


def _versions() -> list[dict[str, Any]]:
    rows = [
        _row("syq-dse", "ok", __version__),
        _row("Python", "ok", f"{platform.python_version()}, {platform.machine()}"),
    ]
    for name in CORE:
        rows.append(_package(name, "broken", "pip install syq-dse"))
    for extra, names in EXTRAS.items():
        rows += [_package(name, "missing", f"pip install 'syq-dse[{extra}]'") for name in names]
    return rows


def _package(name: str, without: str, remedy: str) -> dict[str, Any]:
    try:
        return _row(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return _row(name, without, remedy)


def _programs() -> list[dict[str, Any]]:
    return [
        _row(name, "ok" if found else "missing", found or what)
        for name, what in PROGRAMS.items()
        for found in [shutil.which(name)]
    ]


def _gpu() -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        return _row("GPU", "missing", "torch is not installed")
    from syq_dse.train.points import gpus

    names = gpus()
    if not names:
        return _row("GPU", "missing", "none is found; training takes the CPU")
    return _row("GPU", "ok", ", ".join(names))


def _data() -> list[dict[str, Any]]:
    """Data sets by whether a folder of theirs is there; their files are checked by training."""
    rows = []
    for path in sorted((catalogue.folder("models") / "datasets").glob("*.toml")):
        folders = [Path(name) for name in records.read(path).get("folders", [])]
        folders.append(catalogue.cache_folder("data") / path.stem)
        found = next((str(folder) for folder in folders if _is_folder(folder)), None)
        fetched = ", or let `train` fetch it" if "url" in records.read(path) else ""
        remedy = f"give its folder with --data{fetched}"
        rows.append(_row(f"data: {path.stem}", "ok" if found else "missing", found or remedy))
    return rows


def _is_folder(path: Path) -> bool:
    """Whether a folder is there and can be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _storage() -> list[dict[str, Any]]:
    """Whether files can be written here and in the cache."""
    rows = []
    for what, folder in (("folder", Path()), ("cache", catalogue.cache_folder(""))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
                os.fsync(file.fileno())
            free = shutil.disk_usage(folder).free / 1e9
            rows.append(_row(what, "ok", f"{folder.absolute()}, {free:.0f} GB free"))
        except OSError as error:
            where = f"{folder.absolute()}: {error.strerror}"
            rows.append(_row(what, "broken", f"cannot be written: {where}"))
    return rows
