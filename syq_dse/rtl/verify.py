"""A design's estimate against its synthesis, engine by engine, and its simulation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syq_dse.cost import timing
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.quant import integer
from syq_dse.rtl import emit, gates, simulate
from syq_dse.rtl.engine import Engine, identifier, input_words, result_values
from syq_dse.rtl.liberty import Library
from syq_dse.rtl.synthesis import synthesise
from syq_dse.rtl.weights import Weights
from syq_dse.scheme import Scheme
from syq_dse.technology import Technology

if TYPE_CHECKING:
    from syq_dse.rtl.calibrate import Progress

FOLLOWING = 2
"""Images that come behind those that are looked at."""

BATCH_LUTS = 2000
"""LUTs of engines that one run of Yosys synthesises: its start takes as long as 500 of them."""

COMPARED = ("lut", "lutram", "ff", "dsp", "bram18", "uram")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One engine: what was estimated and what synthesis made of it, by resource."""

    layer: str
    estimate: Mapping[str, float]
    synthesis: Mapping[str, float]


Synthesise = Callable[[Mapping[str, str]], Mapping[str, Mapping[str, float]]]
"""From modules by name to what is compared of each, by the names of its estimate."""


def on_board(family: str, cache: Path | None, timeout_s: float) -> Synthesise:
    """Synthesis for a device family: LUTs, flip-flops, DSPs, block RAM."""

    def synthesised(modules: Mapping[str, str]) -> Mapping[str, Mapping[str, float]]:
        made = synthesise(modules, family, cache, timeout_s)
        return {name: {what: getattr(one, what) for what in COMPARED} for name, one in made.items()}

    return synthesised


def on_cells(
    technology: Technology, library: Library, cache: Path | None, timeout_s: float
) -> Synthesise:
    """Synthesis to a library's cells: gate equivalents, what is in SRAM left out."""

    def synthesised(modules: Mapping[str, str]) -> Mapping[str, Mapping[str, float]]:
        made = gates.synthesise(
            modules,
            library,
            boxes="sram",
            dont_use=technology.dont_use,
            cache=cache,
            timeout_s=timeout_s,
        )
        return {
            name: {"gate_equivalents": round(one.gate_equivalents(library))}
            for name, one in made.items()
        }

    return synthesised


def verify(
    engines: Sequence[Engine],
    texts: Mapping[str, str],
    synthesised: Synthesise,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Compared]:
    """Synthesise every engine as one flat design, and set its estimate beside it.

    Args:
        texts: what `emit.files` makes of the engines.

    Raises:
        InputError: Yosys is missing, fails or exceeds its time.
    """
    made: dict[str, Mapping[str, float]] = {}

    def some(batch: Sequence[Engine]) -> Mapping[str, Mapping[str, float]]:
        names = (identifier(one.layer) for one in batch)
        return synthesised({name: emit.flat(texts, name) for name in names})

    pool = ThreadPoolExecutor(jobs)  # each waits for a process of its own
    try:
        for done in as_completed([pool.submit(some, batch) for batch in _batches(engines)]):
            made |= done.result()
            if progress:
                progress(len(made), len(engines), "engines synthesised")
    finally:  # after Ctrl-C or an error, those that wait are not begun
        pool.shutdown(cancel_futures=True)
    found = []
    for engine in engines:
        of = made[identifier(engine.layer)]
        estimate = {name: engine.estimate[name] for name in of}
        found.append(Compared(layer=engine.layer, estimate=estimate, synthesis=of))
    return found


def _batches(engines: Sequence[Engine]) -> list[list[Engine]]:
    """Engines that one run of Yosys synthesises, the largest first: small ones share its start."""
    batches: list[list[Engine]] = []
    held: float = BATCH_LUTS
    for engine in sorted(engines, key=lambda one: -_size(one)):
        held += _size(engine)
        if held > BATCH_LUTS:
            batches.append([])
            held = _size(engine)
        batches[-1].append(engine)
    return batches


def _size(engine: Engine) -> float:
    """LUTs, or gate equivalents in place of as many."""
    found = engine.estimate
    return found["lut"] if "lut" in found else found["gate_equivalents"] / GATES_A_LUT


GATES_A_LUT = 8
"""Gate equivalents that take Yosys as long as a LUT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """Images that the hardware was run on."""

    images: int
    interval_cycles: int | None  # between the last two; None: there was one
    latency_cycles: int  # of the first, until weights that come from outside are there included


def simulate_design(
    network: Network,
    scheme: Scheme,
    interval: int,
    engines: Sequence[Engine],
    texts: Mapping[str, str],
    integers: integer.NetworkIntegers,
    images: int,
    seed: int = 0,
) -> Simulated:
    """Run the whole network on random images and hold every result against the integer model.

    Raises:
        InputError: a result differs, the hardware stalls, or there is no C++ compiler.
    """
    shape = network.input_shape
    bits = scheme.bits["input"]
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, size=(images, shape.c, shape.h, shape.w))
    expected = integer.infer(network, scheme, integers, codes).reshape(images, -1)
    top = emit.top_name(network)
    out = network.nodes[-1].out_shape
    lanes = timing.stream_lanes(network, network.nodes[-1].name, interval)
    width = len(engines[-1].chain[-1].hardware.m_data) // lanes
    # images follow each other: the interval is that of the steady state
    stream = [*codes, *codes[:FOLLOWING]]
    words = [word for image in stream for word in input_words(network, interval, bits, image)]
    weights: dict[str, Sequence[int]] = {
        f"w_{identifier(engine.layer)}": engine.words * (1 if _kept(engine) else len(stream))
        for engine in engines
        if engine.loaded_bits
    }
    per_image = out.size // lanes
    with tempfile.TemporaryDirectory(prefix="syq-dse-") as folder:
        built = simulate.compile(emit.flat(texts, top), top, Path(folder))
        run = simulate.run(built, weights | {"s": words}, images * per_image)
    found = np.array(result_values(run.words, lanes, width)).reshape(images, -1)
    wrong = np.flatnonzero((found != expected).any(axis=1))
    if len(wrong):
        raise InputError(
            f"{top}: image {wrong[0]} of {images} gives {found[wrong[0]].tolist()}, and the "
            f"integer model {expected[wrong[0]].tolist()}"
        )
    ends = [run.times[per_image * (i + 1) - 1] for i in range(images)]
    return Simulated(
        images=images,
        interval_cycles=ends[-1] - ends[-2] if images > 1 else None,
        latency_cycles=ends[0] + 1,
    )


def _kept(engine: Engine) -> bool:
    """Whether weights that come from outside stay: from DRAM they come for every image."""
    return engine.weights is not None and isinstance(engine.weights.hardware, Weights)
