"""Simulation of emitted Verilog, compiled to a program through Yosys' cxxrtl."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from syq_dse.errors import InputError, unknown
from syq_dse.rtl import yosys
from syq_dse.rtl.synthesis import PORT, own

COMPILERS = ("c++", "g++", "clang++")

FLAGS = ("-std=c++14", "-O1", "-DCXXRTL_NDEBUG")
"""Measured on 512 ternary products and their adder trees: -O1 compiles in 15 s and runs 15 times as
fast as -O0 (7 s); -O2 compiles in 17 s and runs a tenth faster. Without assertions a read past a
memory's last word gives 0, as in Amaranth's simulator.
"""

PART = 50
"""Statements in one function of the C++. With one function for all of them the same design takes
three times as long to compile: the time of some passes grows faster than the function.
"""

LIMIT = 10_000_000
"""Cycles that a run may take by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A compiled module."""

    program: Path
    top: str
    inputs: Mapping[str, int]  # bits of the words of each input stream, by prefix
    output: int  # bits of the words of the output stream `m`


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came out, and when; cycle 0 is the first one after the reset."""

    words: list[int]  # unsigned, as wide as m_data
    times: list[int]  # cycle in which each of `words` passed
    s_times: dict[str, list[int]]  # cycle in which each input word passed, by prefix
    cycles: int


def compile(verilog: str, top: str, folder: Path, timeout_s: float = yosys.TIMEOUT_S) -> Simulation:
    """Compile module `top` of a file that `verilog.emit` wrote; `folder` receives the program.

    The module has input streams of any prefixes, the output stream `m`, and clk and rst if it has
    state. The program is made anew each time, and runs only on this machine.

    Raises:
        InputError: no such module, other ports, no C++ compiler, Yosys or the compiler fails.
    """
    compiler = _compiler()
    inputs, output, clocks = _streams(verilog, top)
    lines = [
        "read_verilog -nosynthesis top.v",
        f"hierarchy -top {top}",
        "setattr -mod -unset keep_hierarchy *",
        "write_cxxrtl -g0 top.cc",
    ]
    design = yosys.run(lines, yosys.with_contents_apart("top", verilog), ["top.cc"], timeout_s)[
        "top.cc"
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.cc").write_text(_split(design), encoding="utf-8")
    (folder / "main.cc").write_text(_main(top, inputs, output, clocks), encoding="utf-8")
    program = (folder / ("simulation.exe" if os.name == "nt" else "simulation")).absolute()
    command = [*compiler, *FLAGS, f"-I{_runtime()}", "main.cc", "-o", str(program)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{top}: {compiler[0]} exceeded its time limit of {timeout_s:g} s; "
            "raise the limit, or fold the units more"
        ) from None
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if "error" in line]
        reason = (reasons or done.stderr.splitlines() or [""])[0]
        raise InputError(f"{top}: {compiler[0]}: {reason.strip()}, exit code {done.returncode}")
    return Simulation(program=program, top=top, inputs=inputs, output=output)


def run(
    simulation: Simulation,
    inputs: Mapping[str, Sequence[int]],
    count: int,
    *,
    s_rate: float = 1.0,
    m_rate: float = 1.0,
    seed: int = 0,
    limit: int = LIMIT,
) -> Run:
    """Feed words to each input stream until `count` words came out.

    While an input waits for its next word its data are random bits.

    Args:
        inputs: words by prefix, unsigned; a stream that is not named stays silent.
        s_rate: chance that an input that waits raises valid in a cycle, above 0, at most 1.
        m_rate: chance that the output is ready in a cycle.
        limit: cycles after which the run is given up.

    Raises:
        InputError: words that do not fit, words that are missing at the limit, or an output word
            that changed or vanished before it was taken.
    """
    top = simulation.top
    for name, words in inputs.items():
        if name not in simulation.inputs:
            raise InputError(f"{top}: {unknown('input stream', name, simulation.inputs)}")
        bits = simulation.inputs[name]
        wrong = next((i for i, word in enumerate(words) if not 0 <= word < 1 << bits), None)
        if wrong is not None:
            raise InputError(
                f"{top}: {name}[{wrong}]: a word must be unsigned of {bits} bits, "
                f"got {words[wrong]}"
            )
    for what, rate in (("s_rate", s_rate), ("m_rate", m_rate)):
        if not 0 < rate <= 1:
            raise InputError(f"{top}: {what} must be above 0 and at most 1, got {rate}")
    lines = [
        f"{count} {limit} {seed % 2**64} {_threshold(s_rate)} {_threshold(m_rate)}",
    ]
    for name, bits in simulation.inputs.items():
        words, digits = inputs.get(name, ()), _chunks(bits) * 8
        lines += [str(len(words)), *(f"{int(word):0{digits}x}" for word in words)]
    done = subprocess.run(
        [str(simulation.program)],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"{top}: the simulation failed, exit code {done.returncode}")
    return _read(done.stdout, simulation, count)


def _read(text: str, simulation: Simulation, count: int) -> Run:
    """The report of the program: state, cycles, output words, and the times of the inputs."""
    lines = iter(text.splitlines())
    state, cycles = next(lines).split()
    if state == "broken":
        raise InputError(
            f"{simulation.top}: m_valid or m_data changed in cycle {cycles}, "
            "before the word was taken"
        )
    pairs = [next(lines).split() for _ in range(int(next(lines)))]
    if len(pairs) < count:
        passed = {name: len(next(lines).split()) for name in simulation.inputs}
        taken = ", ".join(f"{words} of '{name}'" for name, words in passed.items())
        raise InputError(
            f"{simulation.top}: {count - len(pairs)} of {count} words are missing after "
            f"{cycles} cycles, words read: {taken}; feed more words or raise the limit"
        )
    return Run(
        words=[int(word, 16) for _, word in pairs],
        times=[int(time) for time, _ in pairs],
        s_times={name: [int(t) for t in next(lines).split()] for name in simulation.inputs},
        cycles=int(cycles),
    )


def _threshold(rate: float) -> int:
    """What 32 random bits must be below."""
    return round(rate * 2**32)


def _chunks(bits: int) -> int:
    """Words of 32 bits that cxxrtl keeps a value in."""
    return -(-bits // 32)


def _compiler() -> list[str]:
    """The command of the C++ compiler: CXX, or the first that is there."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen and shutil.which(chosen[0]) is None:
        raise InputError(f"CXX: must be a C++ compiler, got '{chosen[0]}', which is not there")
    found = chosen or [name for name in COMPILERS if shutil.which(name)][:1]
    if not found:
        raise InputError(
            f"simulation: needs a C++ compiler, found none of {', '.join(COMPILERS)}; "
            "install g++ or clang++, or set CXX"
        )
    return found


def _runtime() -> Path:
    """The folder of cxxrtl's headers, which come with Yosys."""
    spec = importlib.util.find_spec("pyosys")
    if spec is None or spec.origin is None:
        raise InputError(yosys.MISSING)
    return Path(spec.origin).parent / "share/include/backends/cxxrtl/runtime"


def _streams(verilog: str, top: str) -> tuple[dict[str, int], int, list[str]]:
    """Bits of each input stream, bits of the output stream, and which of clk and rst there are."""
    if f"module {top}(" not in verilog:
        raise InputError(f"{top}: the Verilog holds no such module")
    ports = {}
    for direction, width, name in PORT.findall(own(top, verilog)):
        ports[name] = (direction, int(width.strip("[]").split(":")[0]) + 1 if width else 1)
    inputs = {}
    for name, (direction, _) in ports.items():
        prefix = name.removesuffix("_valid")
        if prefix != name and direction == "input":
            inputs[prefix] = ports.get(f"{prefix}_data", ("", 0))[1]
    clocks = [name for name in ("clk", "rst") if name in ports]
    prefixes = [*inputs, "m"]
    expected = {f"{p}_{part}" for p in prefixes for part in ("valid", "ready", "data")}
    odd = sorted(expected ^ (ports.keys() - set(clocks)))
    if odd:
        rule = "the ports must be clk, rst and streams of valid, ready and data"
        raise InputError(f"{top}: {rule}; missing or unknown: {', '.join(odd)}")
    return dict(sorted(inputs.items())), ports["m_data"][1], clocks


LOCAL = re.compile(r"\t(?:value<\d+>|bool) (\w+)(?: = (.*))?;")


def _split(design: str) -> str:
    """The C++ with `eval` of its one module cut into functions of some `PART` statements each.

    What eval declares moves into the module, but for the clock's edge, which each part asks for. A
    cut is only where a comment starts a new statement. Written otherwise, the text stays as it is.
    """
    signature, end = "::eval(performer *performer) {\n", "\treturn converged;\n}\n"
    declaration = "\tbool eval(performer *performer = nullptr) override;\n"
    if not all(design.count(text) == 1 for text in (signature, end, declaration)):
        return design
    head, _, rest = design.partition(signature)
    body, _, tail = rest.partition(end)
    head, _, module = head.rpartition("bool ")
    members, starts, edges = [], [], []
    parts: list[list[str]] = [[]]
    after_comment = True
    for line in body.splitlines():
        local = LOCAL.fullmatch(line)
        if line.startswith("\t//"):
            after_comment = True
        elif local and "this->" in line:
            edges.append(line)
        elif local:
            members.append(f"{line.partition(' = ')[0].removesuffix(';')};")
            starts += [f"\t{local[1]} = {local[2]};"] if local[2] else []
        else:
            if after_comment and len(parts[-1]) >= PART:
                parts.append([])
            after_comment = False
            parts[-1].append(_cut(line))
    members += [f"\tvoid part_{n}(performer *performer);" for n in range(len(parts))]
    calls = [*starts, *(f"\tpart_{n}(performer);" for n in range(len(parts)))]
    functions = [
        "\n".join((f"void {module}::part_{n}(performer *performer) {{", *edges, *part, "}\n\n"))
        for n, part in enumerate(parts)
    ]
    head = head.replace(declaration, "\n".join((*members, declaration)))
    return "".join(
        (head, *functions, f"bool {module}{signature}", "\n".join(calls), "\n", end, tail)
    )


CHAIN = 16
"""Concatenations in one chain of the C++: its type names each, and 512 take minutes to compile."""


def _cut(line: str) -> str:
    """A line with a value made of each `CHAIN` concatenations, right of what is assigned."""
    target, equals, source = line.partition(" = ")
    if not equals:
        return line
    counts, pieces = [0], [target, equals]
    for token in re.findall(r"\.concat\(|[()]|[^.()]+|\.", source):
        if token == ")":
            counts.pop()
        elif token == "(":
            counts.append(0)
        elif token == ".concat(":
            counts[-1] += 1
            if counts[-1] % CHAIN == 0:
                pieces.append(".val()")
            counts.append(0)
        pieces.append(token)
    return "".join(pieces)


def _mangled(name: str) -> str:
    """A name of Verilog as cxxrtl writes it in C++."""
    letters = (c if c.isalnum() else "__" if c == "_" else f"_{ord(c):x}_" for c in name)
    return "p_" + "".join(letters)


def _main(top: str, inputs: Mapping[str, int], output: int, clocks: Sequence[str]) -> str:
    """The C++ that drives the ports."""

    def port(name: str) -> str:
        return f"top.{_mangled(name)}"

    sources = "\n".join(
        f"  Source<{bits}> {_mangled(name)}({port(f'{name}_valid')}, {port(f'{name}_data')}, "
        f"seed + {2 * index + 1}, s_rate);"
        for index, (name, bits) in enumerate(inputs.items())
    )
    offers = "\n".join(f"    {_mangled(name)}.offer();" for name in inputs)
    takes = "\n".join(
        f"    {_mangled(name)}.take(now({port(f'{name}_ready')}), cycle);" for name in inputs
    )
    settles = "\n".join(f"    {_mangled(name)}.settle();" for name in inputs)
    reports = "\n".join(f"  {_mangled(name)}.report();" for name in inputs)
    parts = {
        "@TOP@": f"cxxrtl_design::{_mangled(top)}",
        "@SOURCES@": sources,
        "@OFFERS@": offers,
        "@TAKES@": takes,
        "@SETTLES@": settles,
        "@REPORTS@": reports,
        "@BITS@": str(output),
        "@CLK@": f"{port('clk')}.set(level);" if "clk" in clocks else "(void)level;",
        "@RST@": f"{port('rst')}.set(level);" if "rst" in clocks else "(void)level;",
        "@M_VALID@": port("m_valid"),
        "@M_READY@": port("m_ready"),
        "@M_DATA@": port("m_data"),
    }
    text = _MAIN
    for key, value in parts.items():
        text = text.replace(key, value)
    return text


_MAIN = r"""
#include "top.cc"

#include <cinttypes>
#include <cstdio>
#include <iostream>
#include <random>
#include <string>

using cxxrtl::value;
using cxxrtl::wire;

// An output is a value, or a wire where a register drives it.
template <size_t Bits> const value<Bits> &now(const value<Bits> &port) { return port; }
template <size_t Bits> const value<Bits> &now(const wire<Bits> &port) { return port.curr; }
bool high(const value<1> &port) { return port.data[0] != 0; }

bool chance(std::mt19937_64 &random, uint64_t rate) { return (random() >> 32) < rate; }

// Words travel as 8 hexadecimal digits a chunk, the highest chunk first.
template <size_t Bits> value<Bits> parse(const std::string &text) {
  value<Bits> word;
  for (size_t n = 0; n < word.chunks; n++)
    word.data[word.chunks - 1 - n] = std::stoul(text.substr(8 * n, 8), nullptr, 16);
  return word;
}

template <size_t Bits> void print(const value<Bits> &word) {
  for (size_t n = word.chunks; n > 0; n--)
    std::printf("%08" PRIx32, word.data[n - 1]);
}

template <size_t Bits> struct Source {
  value<1> &valid;
  value<Bits> &data;
  std::mt19937_64 random, noise;
  uint64_t rate;
  std::vector<value<Bits>> words;
  std::vector<uint64_t> times;

  Source(value<1> &valid, value<Bits> &data, uint64_t seed, uint64_t rate)
      : valid(valid), data(data), random(seed), noise(seed + 1), rate(rate) {
    size_t count = 0;
    std::cin >> count;
    words.reserve(count);
    std::string text;
    for (size_t n = 0; n < count && std::cin >> text; n++)
      words.push_back(parse<Bits>(text));
    valid.set(false);
    scramble();
  }

  void scramble() {
    for (size_t n = 0; n < data.chunks; n++)
      data.data[n] = uint32_t(noise());
    data.data[data.chunks - 1] &= data.msb_mask;
  }

  void offer() {
    if (high(valid) || times.size() == words.size() || !chance(random, rate))
      return;
    valid.set(true);
    data = words[times.size()];
  }

  // Called before the rising edge, whose new inputs only the next falling edge shows.
  bool passed = false;
  void take(const value<1> &ready, uint64_t cycle) {
    passed = high(valid) && high(ready);
    if (passed)
      times.push_back(cycle);
  }

  void settle() {
    if (!passed)
      return;
    valid.set(false);
    scramble();
  }

  void report() const {
    for (uint64_t time : times)
      std::printf("%" PRIu64 " ", time);
    std::printf("\n");
  }
};

@TOP@ top;

void clk(bool level) { @CLK@ }
void rst(bool level) { @RST@ }

int main() {
  std::ios::sync_with_stdio(false);
  uint64_t count, limit, seed, s_rate, m_rate;
  std::cin >> count >> limit >> seed >> s_rate >> m_rate;
@SOURCES@
  std::mt19937_64 random(seed);
  std::vector<value<@BITS@>> words;
  std::vector<uint64_t> times;
  value<@BITS@> held;
  bool holds = false;
  const char *state = "done";

  rst(true);
  @M_READY@.set(false);
  for (int n = 0; n < 2; n++) {
    clk(false);
    top.step();
    clk(true);
    top.step();
  }
  rst(false);

  uint64_t cycle = 0;
  for (; words.size() < count && cycle < limit; cycle++) {
@OFFERS@
    bool ready = chance(random, m_rate);
    @M_READY@.set(ready);
    clk(false);
    top.step();
    bool valid = high(now(@M_VALID@));
    if (holds && !(valid && now(@M_DATA@) == held)) {
      state = "broken";
      break;
    }
    holds = valid && !ready;
    if (holds)
      held = now(@M_DATA@);
    if (valid && ready) {
      words.push_back(now(@M_DATA@));
      times.push_back(cycle);
    }
@TAKES@
    clk(true);
    top.step();
@SETTLES@
  }

  std::printf("%s %" PRIu64 "\n%zu\n", state, cycle, words.size());
  for (size_t n = 0; n < words.size(); n++) {
    std::printf("%" PRIu64 " ", times[n]);
    print(words[n]);
    std::printf("\n");
  }
@REPORTS@
}
"""
