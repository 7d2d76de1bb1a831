"""TOML and JSON to frozen dataclasses and back; every error names file, key and value.

The dataclass is the schema. Understood field types: bool, int, float, str, Literal, X | None,
tuple[X, ...], tuple[X, Y], dict[str, X], other dataclasses, and unions of dataclasses that are told
apart by a class attribute `op`. A float field takes an integer; nothing else is converted.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import tempfile
import time
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from syq_dse.errors import InputError, one_line, unknown

T = TypeVar("T")

LARGEST_FILE = 64 * 2**20
"""Bytes read from one description file; a larger one is no description."""


def load(path: Path, cls: type[T]) -> T:
    """Read a TOML (or, by its ending, JSON) file into a record of type `cls`."""
    return structure(read(path), cls, path.name)


def read(path: Path) -> dict[str, Any]:
    """The table that a TOML or JSON file holds.

    Raises:
        InputError: the file is missing, unreadable, too large, or does not parse.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)  # a device may have no end, and says size 0
        if len(content) > LARGEST_FILE:
            raise InputError(f"{path}: a description has at most {LARGEST_FILE} bytes")
        text = content.decode("utf-8-sig")  # some editors put a byte order mark before it
        if path.suffix == ".json":
            data = json.loads(text, object_pairs_hook=_json_table)
        else:
            data = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    except ValueError as error:  # both parsers' errors derive from it and carry line and column
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InputError(f"{path}: does not parse as {kind}: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: must hold a table of keys, got {_shown(data)}")
    return data


def structure(data: Mapping[str, Any], cls: type[T], place: str) -> T:
    """Turn a parsed table into a record; `place` is the file's name, for the message.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Box:
    ...     sides: tuple[int, ...]
    >>> structure({"sides": [1, 2]}, Box, "box.toml")
    Box(sides=(1, 2))
    >>> structure({"sides": [1, "2"]}, Box, "box.toml")
    Traceback (most recent call last):
    syq_dse.errors.InputError: box.toml: sides[1]: must be an integer, got '2'
    """
    return typing.cast(T, _record(data, cls, place, ""))


def plain(value: Any) -> Any:
    """The reverse of `structure`: a record as dicts, lists and scalars, ready for JSON.

    Fields that hold None are left out; a class attribute `op` comes first. Numbers of numpy become
    Python's.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        op = _op(type(value))
        out: dict[str, Any] = {} if op is None else {"op": op}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if item is not None:
                out[field.name] = plain(item)
        return out
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value.item() if getattr(value, "shape", None) == () else value


def make_folder(path: Path) -> None:
    """Make a folder, and those around it, where it is not there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file at once or not at all.

    Raises:
        InputError: the file cannot be written, or the text has half a surrogate pair.
    """
    try:
        write_bytes(path, text.encode("utf-8"))
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise InputError(f"{path}: cannot be written: {half!r} is no character") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file at once or not at all: a reader never sees half of it.

    A device or a pipe, such as /dev/stdout, is written into.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a record or plain value as JSON, at once or not at all.

    Raises:
        InputError: the file cannot be written, or the value holds what JSON does not, such as NaN.
    """
    data = plain(value)
    _check_json(data, str(path), "")
    write_text(path, json.dumps(data, indent=1) + "\n")


def _json_table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; the parser by itself keeps the last of two equal keys."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {key!r} stands twice in one table")
        table[key] = value
    return table


def _check_json(data: Any, place: str, key: str) -> None:
    if isinstance(data, dict):
        for name, item in data.items():
            _check_json(item, place, _below(key, name))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            _check_json(item, place, f"{key}[{index}]")
    elif isinstance(data, float):
        _scalar(data, float, place, key)
    elif not isinstance(data, (str, int, type(None))):
        raise InputError(f"{_at(place, key)}: must be JSON, got {_shown(data)}")


def _record(data: Any, cls: type, place: str, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise InputError(f"{_at(place, key)}: must be a table, got {_shown(data)}")
    hints, op = _hints(cls), _op(cls)
    known = [*hints] if op is None else ["op", *hints]
    for name in data:
        if name not in known:
            raise InputError(f"{_at(place, key)}: {unknown('key', name, known)}")
    if op is not None and data.get("op", op) != op:
        raise InputError(f"{_at(place, key)}: {unknown('op', data['op'], [op])}")
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            value = data[field.name]
            values[field.name] = _value(value, hints[field.name], place, _below(key, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{_at(place, key)}: the key '{field.name}' is missing")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{_at(place, key)}: {error}") from None


def _value(data: Any, hint: Any, place: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        records = [a for a in arguments if dataclasses.is_dataclass(a)]
        if len(records) > 1:
            return _tagged(data, records, place, key)
        return _value(data, next(a for a in arguments if a is not type(None)), place, key)
    if origin is typing.Literal:
        if not any(type(data) is type(a) and data == a for a in arguments):  # 1 == 1.0 == True
            choices = ", ".join(str(a) for a in arguments)
            raise InputError(f"{_at(place, key)}: must be one of {choices}, got {_shown(data)}")
        return data
    if origin is tuple:
        return _tuple(data, arguments, place, key)
    if origin is dict:
        if not isinstance(data, Mapping):
            raise InputError(f"{_at(place, key)}: must be a table, got {_shown(data)}")
        return {k: _value(v, arguments[1], place, _below(key, k)) for k, v in data.items()}
    if dataclasses.is_dataclass(hint):
        return _record(data, typing.cast(type, hint), place, key)
    return _scalar(data, hint, place, key)


def _tagged(data: Any, records: list[Any], place: str, key: str) -> Any:
    by_op = {record.op: record for record in records}
    if not isinstance(data, Mapping):
        raise InputError(f"{_at(place, key)}: must be a table, got {_shown(data)}")
    if "op" not in data:
        raise InputError(f"{_at(place, key)}: the key 'op' is missing; known: {', '.join(by_op)}")
    if not isinstance(data["op"], str) or data["op"] not in by_op:
        raise InputError(f"{_at(place, key)}: {unknown('op', data['op'], by_op)}")
    return _record(data, by_op[data["op"]], place, key)


def _tuple(data: Any, arguments: tuple[Any, ...], place: str, key: str) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise InputError(f"{_at(place, key)}: must be a list, got {_shown(data)}")
    if arguments[-1] is Ellipsis:
        hints = [arguments[0]] * len(data)
    else:
        hints = list(arguments)
        if len(data) != len(hints):
            raise InputError(f"{_at(place, key)}: must have {len(hints)} items, got {len(data)}")
    return tuple(
        _value(d, h, place, f"{key}[{i}]") for i, (d, h) in enumerate(zip(data, hints, strict=True))
    )


_NAMES = {bool: "true or false", int: "an integer", float: "a finite number", str: "a string"}


def _scalar(data: Any, hint: Any, place: str, key: str) -> Any:
    if hint is Any:
        return data
    if hint is float:
        number = isinstance(data, (int, float)) and not isinstance(data, bool)
        good = number and abs(data) < 1e300 and math.isfinite(data)
        data = float(data) if good else data
    elif hint is int:
        good = isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**53
    else:
        good = isinstance(data, hint)
    if not good:
        raise InputError(f"{_at(place, key)}: must be {_NAMES[hint]}, got {_shown(data)}")
    return data


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _op(cls: type) -> str | None:
    """The tag of a record that has one; a field may be called `op` too, and is none."""
    return None if "op" in _hints(cls) else getattr(cls, "op", None)


def _below(key: str, name: str) -> str:
    return f"{key}.{one_line(name)}" if key else one_line(name)


def _at(place: str, key: str) -> str:
    return f"{place}: {key}" if key else place


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def sha256(path: Path) -> str:
    """Of a file's contents.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one process, as long as the block or the process lasts.

    Args:
        what: commands that hold it, for the message.

    Raises:
        InputError: another process holds it, or it cannot be written.
    """
    try:
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"{folder}: another {what} is at work in this folder; wait for it or stop it"
        ) from None
    try:
        yield
    finally:
        os.close(handle)


LONGEST_WRITE_S = 60.0
"""For so long readers wait for files to be written, and writers for them to be read."""


@contextmanager
def together(folder: Path, write: bool) -> Iterator[None]:
    """Hold a folder whose files belong together: with other readers, or alone to write them.

    The lock is on the folder itself, so that it leaves no file and works where nothing can be
    written; where there is no folder, or its file system has no locks, nothing is held.

    Raises:
        InputError: others hold it for too long.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        end = time.monotonic() + LONGEST_WRITE_S
        while not _taken(handle, fcntl.LOCK_EX if write else fcntl.LOCK_SH):
            if time.monotonic() > end:
                what = "read" if write else "written"
                raise InputError(f"{folder}: is still being {what} by another process; try again")
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _taken(handle: int, lock: int) -> bool:
    try:
        fcntl.flock(handle, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def in_use(folder: Path) -> bool:
    """Whether a process holds a folder."""
    try:
        handle = os.open(folder / ".lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
