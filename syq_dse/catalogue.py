"""Where a name becomes a file: shipped networks, targets, prices and studies, or a user's own."""

from __future__ import annotations

import os
from functools import cache
from importlib import resources
from pathlib import Path

from syq_dse.errors import InputError, unknown

LONGEST_NAME = 80
"""Bytes of a name that becomes a part of the names of files."""


@cache
def folder(package: str) -> Path:
    """The folder of a data package: `models`, `hwmodels` or `studies`.

    Installed, it is `syq_dse.models`; in a checkout that is not, it lies beside `syq_dse`.
    """
    try:
        return Path(str(resources.files(f"syq_dse.{package}")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parent.parent / package


def cache_folder(kind: str) -> Path:
    """Where what can be made or had again stays: a folder of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "syq-dse" / kind


def names(package: str, subfolder: str = "") -> list[str]:
    """The names that a data package offers, sorted."""
    return sorted(path.stem for path in (folder(package) / subfolder).glob("*.toml"))


def check_name(name: str) -> None:
    """Refuse the name of a network or target that cannot be a part of a file's name.

    Raises:
        InputError: it is blank, has a slash or what does not print, or is too long.
    """
    printable = name.strip() and name.isprintable() and "/" not in name
    if not printable or len(name.encode()) > LONGEST_NAME:
        rule = f"name must be printable, without '/', of 1 to {LONGEST_NAME} bytes"
        raise InputError(f"{rule}, got {name!r}")


def is_path(name: str) -> bool:
    """Whether a name is the path of a user's own file."""
    return name.endswith(".toml") or "/" in name


def is_source(name: str) -> bool:
    """Whether a network is to be imported: an ONNX file, or `package.module:function`.

    >>> [is_source(name) for name in ("net.onnx", "nets:small@1,1,28,28", "lenet5", "a:b.toml")]
    [True, True, False, False]
    """
    module = ":" in name and not is_path(name.partition("@")[0])
    return name.lower().endswith(".onnx") or module


def whole(name: str) -> str:
    """The name, or the absolute path where it is one: it holds in any folder."""
    return str(Path(name).absolute()) if is_path(name) else name


def find(kind: str, name: str, package: str, subfolders: tuple[str, ...] = ("",)) -> Path:
    """The file of a shipped name, or the user's own file where `name` is a path to a TOML file.

    Raises:
        InputError: neither such a name nor such a file.
    """
    if is_path(name):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{kind} '{name}': no such file")
        return path
    known = [n for subfolder in subfolders for n in names(package, subfolder)]
    if name not in known:
        raise InputError(f"{unknown(kind, name, known)}; a path to a .toml file works too")
    return next(
        path
        for path in (folder(package) / s / f"{name}.toml" for s in subfolders)
        if path.is_file()
    )
