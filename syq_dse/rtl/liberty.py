"""Liberty files: what a library's cells are, as far as the area of synthesised logic needs it.

Source of the format: Liberty User Guide, Open Source Liberty. Yosys and ABC read the timing.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from syq_dse.errors import InputError, one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryFile:
    """One Liberty file of a library."""

    name: str  # without folder and .gz
    sha256: str  # of the text, decompressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Standard cells: one or several Liberty files that make one library.

    Attributes:
        texts: the files' texts, in the order of `files`.
        areas: of each cell [the library's unit, um2 but for scalable rules].
    """

    files: tuple[LibraryFile, ...]
    texts: tuple[str, ...]
    areas: dict[str, float]
    nand2: str  # the smallest NAND of two inputs: the gate equivalent
    flip_flop: str  # the smallest flip-flop

    @property
    def nand2_area(self) -> float:
        return self.areas[self.nand2]


def read(paths: Sequence[Path]) -> Library:
    """The library in some files, each plain or compressed by gzip.

    Raises:
        InputError: a file is missing, cut, or no Liberty; no flip-flop or no NAND2 in any of them.
    """
    if not paths:
        raise InputError("liberty: at least one file is needed")
    files, texts = [], []
    areas: dict[str, float] = {}
    nands: dict[str, float] = {}
    flip_flops: dict[str, float] = {}
    for path in paths:
        text = text_of(path)
        for name, body in _cells(text, path):
            area = _area(body, f"{path}: cell {name}")
            if name in areas:
                raise InputError(f"{path}: cell {name}: is in an earlier file too")
            areas[name] = area
            if not area > 0:
                continue  # fillers and taps without logic
            if re.search(r"\bff\s*\(", body) and "scan" not in body.lower():
                flip_flops[name] = area
            elif _is_nand2(body):
                nands[name] = area
        name = path.name.removesuffix(".gz")
        files.append(LibraryFile(name=name, sha256=hashlib.sha256(text.encode()).hexdigest()))
        texts.append(text)
    place = ", ".join(str(path) for path in paths)
    for what, found in (("flip-flop (ff group)", flip_flops), ("NAND of two inputs", nands)):
        if not found:
            raise InputError(f"{place}: no cell is a {what}; give all files of the library")
    return Library(
        files=tuple(files),
        texts=tuple(texts),
        areas=areas,
        nand2=min(nands, key=lambda name: nands[name]),
        flip_flop=min(flip_flops, key=lambda name: flip_flops[name]),
    )


def text_of(path: Path) -> str:
    """The text of a Liberty file, unpacked, without comments.

    Raises:
        InputError: it is missing, cut, or none.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        text = data.decode("utf-8", errors="strict")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error):
        raise InputError(f"{path}: is cut: its gzip stream does not end") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no Liberty file: not text; unpack it first") from None
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    if not re.search(r"^\s*library\s*\(", text, re.MULTILINE):
        raise InputError(f"{path}: is no Liberty file: has no library group")
    bare = re.sub(r'"[^"]*"', "", text)
    opened, closed = bare.count("{"), bare.count("}")
    if opened != closed:
        raise InputError(f"{path}: is cut: {opened} groups begin, {closed} end")
    return text


CELL = re.compile(r'\bcell\s*\(\s*"?([^\s")]+)"?\s*\)\s*\{')


def _cells(text: str, path: Path) -> list[tuple[str, str]]:
    """Name and text of each cell; up to the next one, since groups are nested."""
    starts = list(CELL.finditer(text))
    if not starts:
        raise InputError(f"{path}: holds no cell")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [(start[1], text[start.end() : end]) for start, end in zip(starts, ends, strict=True)]


def of_cell(library: Library, name: str) -> tuple[str, str]:
    """The text of a cell's group, and that of its file."""
    for text, file in zip(library.texts, library.files, strict=True):
        for cell, body in _cells(text, Path(file.name)):
            if cell == name:
                return body, text
    raise KeyError(name)


def _area(body: str, place: str) -> float:
    found = re.search(r'\barea\s*:\s*"?([-+.\deE]+)', body)
    try:
        return float(found[1]) if found else 0.0
    except ValueError:
        raise InputError(f"{place}: area must be a number, got {one_line(str(found))}") from None


PIN = re.compile(r"\bpin\s*\(")


def _is_nand2(body: str) -> bool:
    """Whether a cell's one output is low only where its two inputs are high."""
    pins = PIN.split(body)[1:]
    inputs = [pin for pin in pins if re.search(r'direction\s*:\s*"?input', pin)]
    functions = re.findall(r'\bfunction\s*:\s*"([^"]*)"', body)
    if len(inputs) != 2 or len(functions) != 1 or re.search(r"\b(ff|latch|statetable)\b", body):
        return False
    names = [re.match(r'\s*"?([\w\[\]]+)', pin) for pin in inputs]
    if not all(names):
        return False
    try:
        return truth(functions[0], [name[1] for name in names if name]) == (1, 1, 1, 0)
    except ValueError:
        return False


TOKEN = re.compile(r"\s*([\w\[\]]+|[!'()*&+|^])")


def truth(function: str, inputs: Sequence[str]) -> tuple[int, ...]:
    """The values of a Liberty function, the first input the slowest.

    Raises:
        ValueError: it does not parse, or names something else.

    >>> truth("!(A B)", ["A", "B"]), truth("A' + !B", ["A", "B"])
    ((1, 1, 1, 0), (1, 1, 1, 0))
    """
    compiled = evaluator(function, inputs)
    return tuple(compiled(1, *row) for row in product((0, 1), repeat=len(inputs)))


def evaluator(function: str, inputs: Sequence[str]) -> Callable[..., int]:
    """A Liberty function as a function of a mask of ones and of its inputs, bit by bit.

    Raises:
        ValueError: it does not parse, or names something else.
    """
    names = {name: f"x{index}" for index, name in enumerate(inputs)}
    text = expression(function, names)
    found: Callable[..., int] = eval(f"lambda mask, {', '.join(names.values())}: {text}")  # of ours
    return found


def expression(function: str, names: Mapping[str, str]) -> str:
    """A Liberty function as a Python expression of `mask` and of the names of its inputs.

    Raises:
        ValueError: it does not parse, or names something else.

    >>> expression("!(A B)", {"A": "v[3]", "B": "v[7]"})
    '(mask ^ (v[3] & v[7]))'
    """
    tokens = TOKEN.findall(function)
    if "".join(tokens) != re.sub(r"\s", "", function):
        raise ValueError(function)
    return _Parser(tokens, names).python()


class _Parser:
    """A function as a Python expression: or, exclusive or, and (written or not), not."""

    def __init__(self, tokens: Sequence[str], names: Mapping[str, str]) -> None:
        self.tokens, self.names, self.at = list(tokens), names, 0

    def python(self) -> str:
        found = self._or()
        if self.at != len(self.tokens):
            raise ValueError("".join(self.tokens))
        return found

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _or(self) -> str:
        found = self._xor()
        while self._next() in ("+", "|"):
            self.at += 1
            found = f"({found} | {self._xor()})"
        return found

    def _xor(self) -> str:
        found = self._and()
        while self._next() == "^":
            self.at += 1
            found = f"({found} ^ {self._and()})"
        return found

    def _and(self) -> str:
        found = self._not()
        while self._next() and self._next() not in ("+", "|", "^", ")"):
            self.at += self._next() in ("*", "&")
            found = f"({found} & {self._not()})"
        return found

    def _not(self) -> str:
        token = self._next()
        self.at += 1
        if token == "!":
            return f"(mask ^ {self._not()})"
        if token == "(":
            found = self._or()
            if self._next() != ")":
                raise ValueError("".join(self.tokens))
            self.at += 1
        elif token in self.names:
            found = self.names[token]
        elif token in ("0", "1"):
            found = "mask" if token == "1" else "0"
        else:
            raise ValueError(token)
        while self._next() == "'":
            self.at += 1
            found = f"(mask ^ {found})"
        return found


# Power


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a cell does and what that takes.

    Attributes:
        inputs: capacitance of each input pin [pF].
        outputs: function of each output pin; of a flip-flop, in terms of its state's names.
        toggle_pj: internal energy of a toggle of each output, mean of rise and fall.
        clock: the pin of a flip-flop's clock, and its internal energy a cycle [pJ].
        state: names of the state and its inverse, and the state that follows.
    """

    inputs: dict[str, float]
    outputs: dict[str, str]
    toggle_pj: dict[str, float]
    clock: str = ""
    clock_pj: float = 0.0
    state: tuple[str, str, str] | None = None


def cells(library: Library) -> dict[str, Cell]:
    """The cells of a library by name; those with latches or without a function are left out."""
    found: dict[str, Cell] = {}
    for text, file in zip(library.texts, library.files, strict=True):
        scale = _picofarads(text)
        for name, body in _cells(text, Path(file.name)):
            cell = _cell(body, scale)
            if cell is not None:
                found[name] = cell
    return found


def _picofarads(text: str) -> float:
    """The library's unit of capacitance; with volts, also that of energy [pJ]."""
    unit = re.search(r"capacitive_load_unit\s*\(\s*([\d.]+)\s*,\s*\"?(\w+)", text)
    if unit is None:
        return 1.0
    return float(unit[1]) * {"ff": 1e-3, "pf": 1.0}[unit[2].lower()]


def _cell(body: str, scale: float) -> Cell | None:
    pins = PIN.split(body)
    inputs, outputs, toggles = {}, {}, {}
    energy = {}
    for pin in pins[1:]:
        named = re.match(r'\s*"?([\w\[\]]+)', pin)
        if named is None:
            return None
        name = named[1]
        energy[name] = scale * _internal(pin)
        if re.search(r'direction\s*:\s*"?input', pin):
            load = re.search(r'\bcapacitance\s*:\s*"?([\d.eE+-]+)', pin)
            inputs[name] = scale * float(load[1]) if load else 0.0
        function = re.search(r'\bfunction\s*:\s*"([^"]*)"', pin)
        if function:
            outputs[name] = function[1]
            toggles[name] = energy[name]
    if not outputs or re.search(r"\b(latch|statetable)\s*\(", body):
        return None
    ff = re.search(r'\bff\s*\(\s*"?(\w+)"?\s*,\s*"?(\w+)"?\s*\)\s*\{(.*?)\}', body, re.DOTALL)
    if ff is None:
        return Cell(inputs=inputs, outputs=outputs, toggle_pj=toggles)
    follows = re.search(r'next_state\s*:\s*"([^"]*)"', ff[3])
    clocked = re.search(r'clocked_on\s*:\s*"[^\w]*(\w+)', ff[3])
    if follows is None or clocked is None or clocked[1] not in inputs:
        return None
    return Cell(
        inputs=inputs,
        outputs=outputs,
        toggle_pj=toggles,
        clock=clocked[1],
        clock_pj=2 * energy[clocked[1]],  # both edges
        state=(ff[1], ff[2], follows[1]),
    )


POWER = re.compile(r"\b(?:rise|fall|)_?power\s*\([^)]*\)\s*\{(.*?)\}", re.DOTALL)


def _internal(pin: str) -> float:
    """Internal energy of a pin's toggle: mean of all its tables, each at a third of its axes."""
    found = []
    for table in POWER.findall(pin):
        values = re.search(r"values\s*\((.*?)\)", table, re.DOTALL)
        if values is None:
            continue
        value = third_of(values[1])
        if value is not None:
            found.append(value)
    return sum(found) / len(found) if found else 0.0


def third_of(values: str) -> float | None:
    """The entry of a table at a third of its axes; None: there is none."""
    rows = re.findall(r'"([^"]*)"', values) or [values]
    row = re.findall(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", rows[len(rows) // 3])
    return float(row[len(row) // 3]) if row else None
