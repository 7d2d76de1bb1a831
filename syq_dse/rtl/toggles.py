"""Energy of synthesised units: toggles of every net, times what the library says of each.

Nets change once a cycle: no glitches, and no wires, so that the figure is a lower bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syq_dse.errors import InputError
from syq_dse.rtl import gates, yosys
from syq_dse.rtl.liberty import Cell, Library, cells, evaluator

LANES = 64
"""Independent streams that one simulation has, as the bits of numbers."""

CYCLES, WARM_UP = 16, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Mean energy of a unit in a cycle in which words go in and out [pJ]."""

    logic_pj: float  # internal, and of the pins that nets drive
    clock_pj: float  # of flip-flops' clock pins
    toggles: float  # of a net


def measure(
    modules: Mapping[str, str],
    library: Library,
    volts: float,
    dont_use: Sequence[str] = (),
    seed: int = 0,
    timeout_s: float = yosys.TIMEOUT_S,
) -> tuple[dict[str, gates.Mapped], dict[str, Energy]]:
    """What modules become, and their energy: streams of random words, all valid and taken at once.

    Raises:
        InputError: Yosys fails, or a cell has no function.
    """
    netlist = "netlist.json"
    mapped, texts = gates.run(
        modules, library, "sram", dont_use, timeout_s, [f"write_json {netlist}"], [netlist]
    )
    found = json.loads(texts[netlist])["modules"]
    of = cells(library)
    return mapped, {name: _energy(found[name], of, volts, seed, name) for name in modules}


@dataclass(frozen=True, slots=True)
class _Gate:
    output: int
    inputs: tuple[int, ...]
    function: Callable[..., int]


def _energy(
    module: Mapping[str, Any], of: Mapping[str, Cell], volts: float, seed: int, name: str
) -> Energy:
    """Simulate one netlist."""
    loads: dict[int, float] = {}
    internal: dict[int, float] = {}
    pending: list[_Gate] = []
    registers: list[tuple[_Gate, list[_Gate]]] = []
    clock_pj = 0.0
    for instance in module["cells"].values():
        kind = instance["type"].removeprefix("\\")
        if kind == gates.SRAM:
            continue
        if kind not in of:
            raise InputError(f"{name}: cell {kind} has no function in its Liberty file")
        cell, pins = of[kind], {pin: _bit(bits) for pin, bits in instance["connections"].items()}
        for pin, load in cell.inputs.items():
            if pin != cell.clock and pin in pins:
                loads[pins[pin]] = loads.get(pins[pin], 0.0) + load
        inputs = list(cell.inputs)
        if cell.state is None:
            for pin, function in cell.outputs.items():
                if pin in pins:
                    internal[pins[pin]] = cell.toggle_pj[pin]
                    nets = tuple(pins.get(one, -1) for one in inputs)
                    pending.append(_Gate(pins[pin], nets, evaluator(function, inputs)))
            continue
        clock_pj += cell.clock_pj + cell.inputs[cell.clock] * volts**2
        state, inverse, follows = cell.state
        held = -len(registers) - 10  # a net of its own
        nets = tuple(pins.get(one, -1) for one in inputs)
        # a clear or preset is tied off: what is read is the state that follows by the clock
        step = _Gate(held, (*nets, held), evaluator(follows, [*inputs, state]))
        reads = []
        for pin, function in cell.outputs.items():
            if pin in pins:
                internal[pins[pin]] = cell.toggle_pj[pin]
                read = evaluator(function, [state, inverse])
                reads.append(
                    _Gate(pins[pin], (held,), lambda mask, x, read=read: read(mask, x, mask ^ x))
                )
        registers.append((step, reads))
    ordered = _ordered(pending)
    mask = (1 << LANES) - 1
    rng = np.random.default_rng(seed)
    ports = module["ports"]
    values: dict[int, int] = {-1: 0, ZERO: 0, ONE: mask}
    toggled: dict[int, int] = {}
    for step_of, _ in registers:
        values[step_of.output] = 0
    for cycle in range(WARM_UP + CYCLES):
        before = dict(values) if cycle >= WARM_UP else None
        for port, found in ports.items():
            if found["direction"] != "input":
                continue
            for bit in found["bits"]:
                if isinstance(bit, int):
                    values[bit] = _stimulus(port, cycle, mask, rng)
        for _, reads in registers:
            for gate in reads:
                values[gate.output] = gate.function(mask, values[gate.inputs[0]])
        for gate in ordered:
            values[gate.output] = gate.function(mask, *(values.get(i, 0) for i in gate.inputs))
        if before is not None:
            for net, value in values.items():
                changed = (value ^ before.get(net, 0)).bit_count()
                if changed:
                    toggled[net] = toggled.get(net, 0) + changed
        following = [
            step_of.function(mask, *(values.get(i, 0) for i in step_of.inputs))
            for step_of, _ in registers
        ]
        for (step_of, _), value in zip(registers, following, strict=True):
            values[step_of.output] = value
    runs = CYCLES * LANES
    logic = sum(
        count / runs * (internal.get(net, 0.0) + 0.5 * loads.get(net, 0.0) * volts**2)
        for net, count in toggled.items()
    )
    driven = max(1, len(internal))
    return Energy(
        logic_pj=logic,
        clock_pj=clock_pj,
        toggles=sum(toggled.get(net, 0) for net in internal) / runs / driven,
    )


RESET_CYCLES = 2

ZERO, ONE = -2, -3


def _stimulus(port: str, cycle: int, mask: int, rng: np.random.Generator) -> int:
    if port == "rst":
        return mask if cycle < RESET_CYCLES else 0
    if port == "clk":
        return 0
    if port.endswith(("_valid", "_ready")):
        return mask
    return int(rng.integers(0, mask, dtype=np.uint64, endpoint=True))


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
