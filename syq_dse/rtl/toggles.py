"""Energy of synthesised hardware: toggles of every net, times what the library says of each.

Nets change once a cycle: no glitches, and no wires, so that the figure is a lower bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from syq_dse.errors import InputError
from syq_dse.rtl import gates, yosys
from syq_dse.rtl.liberty import Cell, Library, cells, expression

LANES = 64
"""Independent streams that one simulation has, as the bits of numbers."""

MASK = (1 << LANES) - 1

CYCLES, WARM_UP = 16, 24
"""Of random words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Mean energy of a unit in a cycle [pJ]."""

    logic_pj: float  # internal, and of the pins that nets drive
    clock_pj: float  # of flip-flops' clock pins
    toggles: float  # of a net


class Stimulus(Protocol):
    """What comes in, and for how long."""

    warm_up: int  # cycles before toggles count
    cycles: int  # in which they do

    def drive(self, port: str, width: int) -> Sequence[int]:
        """The bits of an input in the cycle to come, each a number of LANES bits."""

    def see(self, ready: Mapping[str, bool]) -> None:
        """Which inputs took their word in the cycle that was."""


class RandomWords:
    """Random words, all valid and taken at once, addresses one after the other: what energy prices
    are of."""

    warm_up, cycles = WARM_UP, CYCLES

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.addresses: dict[str, list[int]] = {}

    def drive(self, port: str, width: int) -> Sequence[int]:
        if not port.endswith(("_addr", "address")):
            drawn = self.rng.integers(0, MASK, width, dtype=np.uint64, endpoint=True)
            return [int(word) for word in drawn]
        if port not in self.addresses:  # each lane starts somewhere
            self.addresses[port] = self.rng.integers(0, 1 << width, LANES).tolist()
        self.addresses[port] = [value + 1 for value in self.addresses[port]]
        return planes(self.addresses[port], width)

    def see(self, ready: Mapping[str, bool]) -> None:
        """Nothing waits."""


def planes(words: Sequence[int], width: int) -> list[int]:
    """The bits of one word a lane, each as a number of LANES bits."""
    return [
        sum((word >> bit & 1) << lane for lane, word in enumerate(words)) for bit in range(width)
    ]


class Streams:
    """Given words of each input, of LANES images at once, over and over; each waits for ready.

    Args:
        words: by input, shape (LANES, words of an image), each of at most 63 bits.
        warm_up: cycles until the hardware is full.
        cycles: of an image.
    """

    def __init__(
        self, words: Mapping[str, Sequence[Sequence[int]]], warm_up: int, cycles: int
    ) -> None:
        self.warm_up, self.cycles = warm_up, cycles
        self.words = words
        self.place = dict.fromkeys(words, 0)

    def drive(self, port: str, width: int) -> Sequence[int]:
        name = port.removesuffix("_data")
        if name not in self.words:
            raise InputError(f"input {port}: has no words to come")
        of_images = self.words[name]
        index = self.place[name] % len(of_images[0])
        return planes([image[index] for image in of_images], width)

    def see(self, ready: Mapping[str, bool]) -> None:
        for name in self.place:
            self.place[name] += ready.get(f"{name}_ready", True)


def measure(
    modules: Mapping[str, str],
    library: Library,
    volts: float,
    dont_use: Sequence[str] = (),
    seed: int = 0,
    timeout_s: float = yosys.TIMEOUT_S,
    stimuli: Mapping[str, Stimulus] | None = None,
) -> tuple[dict[str, gates.Mapped], dict[str, Energy]]:
    """What modules become, and their energy in a cycle.

    Args:
        stimuli: of each module; None: random words, all valid and taken at once.

    Raises:
        InputError: Yosys fails, or a cell has no function.
    """
    netlist = "netlist.json"
    mapped, texts = gates.run(
        modules, library, "sram", dont_use, timeout_s, [f"write_json {netlist}"], [netlist]
    )
    found = json.loads(texts[netlist])["modules"]
    of = cells(library)
    return mapped, {
        name: energy(found[name], of, volts, stimuli[name] if stimuli else RandomWords(seed), name)
        for name in modules
    }


@dataclass(frozen=True, slots=True)
class _Gate:
    output: int
    inputs: tuple[int, ...]
    text: str  # of a Python expression


@dataclass(frozen=True, slots=True)
class _Sram:
    """A memory with one read and one write port, both clocked; addresses are those of all lanes."""

    read_enable: int
    read_address: tuple[int, ...]
    read_data: tuple[int, ...]
    write_enable: tuple[int, ...]
    write_address: tuple[int, ...]
    write_data: tuple[int, ...]
    words: dict[int, list[int]]

    def clock(self, values: dict[int, int]) -> dict[int, int]:
        """What is read at the edge, by net; what is written is there from the next one on."""
        found: dict[int, int] = {}
        none = [0] * len(self.read_data)
        if values[self.read_enable]:
            word = self.words.get(_number(values, self.read_address), none)
            found = dict(zip(self.read_data, word, strict=True))
        if any(values[net] for net in self.write_enable):
            place = _number(values, self.write_address)
            held = self.words.get(place, none)
            self.words[place] = [
                values[data] if values[enable] else old
                for enable, data, old in zip(self.write_enable, self.write_data, held, strict=True)
            ]
        return found


def _number(values: Mapping[int, int], nets: Sequence[int]) -> int:
    """An address; control is the same in all lanes."""
    return sum((values[net] & 1) << bit for bit, net in enumerate(nets))


@dataclass(frozen=True, slots=True)
class _Netlist:
    """A module: gates in order, registers, and what a toggle of each net takes."""

    ordered: list[_Gate]
    held: list[_Gate]  # the state that follows, of each register
    read: list[_Gate]  # outputs of registers
    internal_pj: dict[int, float]  # of the driver of a net
    load_pf: dict[int, float]
    srams: list[_Sram]
    clock_pj: float


def energy(
    module: Mapping[str, Any], of: Mapping[str, Cell], volts: float, stimulus: Stimulus, name: str
) -> Energy:
    """Simulate one netlist, of Yosys' JSON.

    Raises:
        InputError: a cell has no function, or an input no words.
    """
    net = _netlist(module, of, volts, name)
    driven = [
        *(bit for one in net.srams for bit in one.read_data),
        *(gate.output for gate in net.read),
        *(gate.output for gate in net.ordered),
    ]
    inputs, ready = _ports(module)
    nets = sorted({bit for bits in inputs.values() for bit in bits} | set(driven))
    clock, settle = _clock(net), _settle(net)
    values: dict[int, int] = dict.fromkeys(_mentioned(net), 0) | {ONE: MASK, ZERO: 0, OPEN: 0}
    values |= dict.fromkeys(nets, 0)
    toggled = dict.fromkeys(nets, 0)
    for cycle in range(stimulus.warm_up + stimulus.cycles):
        before = [values[index] for index in nets]
        if cycle:
            from_srams = [one.clock(values) for one in net.srams]
            clock(values, MASK)
            for read in from_srams:
                values.update(read)
        for port, bits in inputs.items():
            for bit, value in zip(bits, _drive(stimulus, port, len(bits), cycle), strict=True):
                values[bit] = value
        settle(values, MASK)
        if cycle >= stimulus.warm_up:
            for index, old in zip(nets, before, strict=True):
                if changed := values[index] ^ old:
                    toggled[index] += changed.bit_count()
        if cycle >= RESET_CYCLES:
            stimulus.see({port: values[bit] == MASK for port, bit in ready.items()})
    runs = stimulus.cycles * LANES
    logic = sum(
        count
        / runs
        * (net.internal_pj.get(index, 0.0) + 0.5 * net.load_pf.get(index, 0.0) * volts**2)
        for index, count in toggled.items()
    )
    known = max(1, len(net.internal_pj))
    return Energy(
        logic_pj=logic,
        clock_pj=net.clock_pj,
        toggles=sum(toggled.get(index, 0) for index in net.internal_pj) / runs / known,
    )


RESET_CYCLES = 2

ZERO, ONE, OPEN = -2, -3, -1


def _drive(stimulus: Stimulus, port: str, width: int, cycle: int) -> Sequence[int]:
    if port == "rst":
        return [MASK if cycle < RESET_CYCLES else 0]
    if port == "clk":
        return [0]
    if port.endswith(("_valid", "_ready")):
        return [MASK] * width
    return stimulus.drive(port, width)


def _ports(module: Mapping[str, Any]) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Nets of inputs, by port, and those that say whether an input is taken."""
    inputs, ready = {}, {}
    for port, found in module["ports"].items():
        bits = [bit for bit in found["bits"] if isinstance(bit, int)]
        if found["direction"] == "input":
            inputs[port] = bits
        elif port.endswith("_ready") and bits:
            ready[port] = bits[0]
    return inputs, ready


def _netlist(
    module: Mapping[str, Any], of: Mapping[str, Cell], volts: float, name: str
) -> _Netlist:
    net = _Netlist([], [], [], {}, {}, [], 0.0)
    pending: list[_Gate] = []
    clock_pj = 0.0
    for instance in module["cells"].values():
        kind = instance["type"].removeprefix("\\")
        if kind == gates.SRAM:
            net.srams.append(_sram(instance, name))
            continue
        if kind not in of:
            raise InputError(f"{name}: cell {kind} has no function in its Liberty file")
        cell, pins = of[kind], {pin: _bit(bits) for pin, bits in instance["connections"].items()}
        for pin, load in cell.inputs.items():
            if pin != cell.clock and pin in pins:
                net.load_pf[pins[pin]] = net.load_pf.get(pins[pin], 0.0) + load
        names = {pin: f"v[{pins.get(pin, OPEN)}]" for pin in cell.inputs}
        reads = tuple(pins.get(pin, OPEN) for pin in cell.inputs)
        if cell.state is not None:
            clock_pj += cell.clock_pj + cell.inputs[cell.clock] * volts**2
            state, inverse, follows = cell.state
            own = -len(net.held) - 10  # a net of its own
            # a clear or preset is tied off: what is read is the state that follows by the clock
            net.held.append(_Gate(own, reads, expression(follows, names | {state: f"v[{own}]"})))
            names = {state: f"v[{own}]", inverse: f"(mask ^ v[{own}])"}
            reads = (own,)
        for pin, function in cell.outputs.items():
            if pin in pins:
                net.internal_pj[pins[pin]] = cell.toggle_pj[pin]
                gate = _Gate(pins[pin], reads, expression(function, names))
                (pending if cell.state is None else net.read).append(gate)
    ordered = _ordered(pending)
    return _Netlist(ordered, net.held, net.read, net.internal_pj, net.load_pf, net.srams, clock_pj)


def _sram(instance: Mapping[str, Any], name: str) -> _Sram:
    parameters, pins = instance["parameters"], instance["connections"]
    ports = [int(parameters[f"{port}_PORTS"], 2) for port in ("RD", "WR")]
    if ports != [1, 1] or parameters["RD_CLK_ENABLE"] != "1":
        raise InputError(f"{name}: its SRAM is not one of a read and a write port with a clock")

    def nets(pin: str) -> tuple[int, ...]:
        return tuple(_bit([bit]) for bit in pins[pin])

    return _Sram(
        nets("RD_EN")[0],
        nets("RD_ADDR"),
        nets("RD_DATA"),
        nets("WR_EN"),
        nets("WR_ADDR"),
        nets("WR_DATA"),
        {},
    )


def _mentioned(net: _Netlist) -> set[int]:
    every = [*net.ordered, *net.held, *net.read]
    found = {gate.output for gate in every} | {index for gate in every for index in gate.inputs}
    for one in net.srams:
        found |= {one.read_enable, *one.read_address, *one.read_data}
        found |= {*one.write_enable, *one.write_address, *one.write_data}
    return found


Step = Callable[[dict[int, int], int], None]

PART = 2000
"""Statements of a function that Python compiles at once."""


def _clock(net: _Netlist) -> Step:
    """The edge: registers take what follows, all at once."""
    following = [f"n{index} = {gate.text}" for index, gate in enumerate(net.held)]
    taken = [f"v[{gate.output}] = n{index}" for index, gate in enumerate(net.held)]
    return _compiled([*following, *taken])


def _settle(net: _Netlist) -> Step:
    """Behind the edge: outputs of registers, then all gates in order."""
    lines = [f"v[{gate.output}] = {gate.text}" for gate in (*net.read, *net.ordered)]
    parts = [_compiled(lines[first : first + PART]) for first in range(0, len(lines), PART)]

    def settle(values: dict[int, int], mask: int) -> None:
        for part in parts:
            part(values, mask)

    return settle


def _compiled(lines: Sequence[str]) -> Step:
    space: dict[str, Any] = {}
    exec("def step(v, mask):\n " + "\n ".join([*lines, "return"]), space)  # of ours
    found: Step = space["step"]
    return found


def _bit(bits: Sequence[Any]) -> int:
    (bit,) = bits
    if isinstance(bit, int):
        return bit
    return ONE if bit == "1" else ZERO


def _ordered(pending: Sequence[_Gate]) -> list[_Gate]:
    """Gates so that each comes behind those that it reads."""
    made = {gate.output: gate for gate in pending}
    done: set[int] = set()
    order: list[_Gate] = []
    for root in pending:
        stack = [root]
        while stack:
            gate = stack[-1]
            if gate.output in done:
                stack.pop()
                continue
            waits = [made[net] for net in gate.inputs if net in made and net not in done]
            if waits:
                stack += waits
            else:
                done.add(gate.output)
                order.append(gate)
                stack.pop()
    return order
