"""Products, in DSPs or in LUTs.

A product in a DSP is plain arithmetic in simulation and the family's primitive in synthesis.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from amaranth import Cat, Const, Elaboratable, Instance, Module, Signal, signed
from amaranth.hdl import Value

from syq_dse.cost.integers import signed_digits
from syq_dse.cost.units.requant import parts
from syq_dse.target import Family

VERILOG = "verilog"
"""The platform of elaboration for emission: a Multiplier is then an instance, to be defined."""


class Multiplier(Elaboratable):
    """product = a * b, two's complement, in the same cycle, in one DSP of a family."""

    def __init__(self, a_width: int, b_width: int, family: str) -> None:
        # unsigned: Yosys reads modules with signed ports twice, and forgets what was set on them
        self.a = Signal(a_width)
        self.b = Signal(b_width)
        self.product = Signal(a_width + b_width)
        self.family = family

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if platform == VERILOG:
            name = f"syq_dsp_{self.family}_{len(self.a)}_{len(self.b)}"
            m.submodules.product = Instance(name, i_a=self.a, i_b=self.b, o_product=self.product)
        else:
            m.d.comb += self.product.eq(self.a.as_signed() * self.b.as_signed())
        return m


def multiply(m: Module, a: Value, b: Value, family: Family, name: str) -> Value:
    """a * b in DSPs, in the same cycle; signed, of as many bits as both operands have together.

    Both are taken as two's complement, whatever their shape says. The narrower has at most the bits
    of the DSP's narrow port. A wider one than the wide port is cut: `parts` says into how many
    DSPs, whose products adders in LUTs join.

    Args:
        name: unlike that of all other submodules of `m`.
    """
    if len(a) < len(b):
        a, b = b, a
    port, narrow = family.multiplier
    assert len(b) <= narrow
    cut = port - 1  # a lower part is positive: its sign bit is 0
    whole: Value | None = None
    count = parts(len(a), port)
    for index in reversed(range(count)):
        part = a[index * cut :] if index == count - 1 else a[index * cut : (index + 1) * cut]
        if index < count - 1:
            part = Cat(part, Const(0, 1))
        unit = Multiplier(len(part), len(b), family.name)
        m.submodules[f"dsp_{name}_{index}"] = unit
        m.d.comb += [unit.a.eq(part), unit.b.eq(b)]
        if whole is None:
            whole = unit.product.as_signed()
        else:  # the lowest `cut` bits have nothing to be added to
            low = unit.product
            high = (whole + low[cut:].as_signed())[: len(whole)]
            whole = Cat(low[:cut], high).as_signed()
    assert whole is not None
    return whole


def multiply_luts(m: Module, operands: Sequence[tuple[Value, Value]], name: str) -> list[Value]:
    """a * b of each pair in LUTs, in the same cycle; signed, of as many bits as both together.

    All are taken as two's complement; all b are of one width, or all are constants: those take an
    adder less than their signed digits that are not 0.

    Args:
        name: unlike that of all other submodules of `m`.
    """
    if isinstance(operands[0][1], Const):
        return [
            _by_constant(m, a, b.value, len(a) + len(b), f"{name}_{i}")
            for i, (a, b) in enumerate(operands)
            if isinstance(b, Const)
        ]
    unit = Booth(len(operands), len(operands[0][0]), len(operands[0][1]))
    m.submodules[f"mapped_{name}"] = unit
    for i, (a, b) in enumerate(operands):
        m.d.comb += [unit.a[i].eq(a), unit.b[i].eq(b)]
    return [product.as_signed() for product in unit.products]


class Booth(Elaboratable):
    """products[i] = a[i] * b[i], two's complement, in the same cycle, in LUTs.

    Booth's recoding of b in base 4: a row for two bits, whose digit in -2..2 selects the multiple
    of a in the LUT that adds it. More than four rows are two halves, for the depth. A module of its
    own in the netlist: mapped together with other logic it takes half as many LUTs again.
    """

    def __init__(self, count: int, a_width: int, b_width: int) -> None:
        # unsigned as in Multiplier
        self.a = [Signal(a_width, name=f"a_{i}") for i in range(count)]
        self.b = [Signal(b_width, name=f"b_{i}") for i in range(count)]
        self.products = [Signal(a_width + b_width, name=f"product_{i}") for i in range(count)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i, (a, b, product) in enumerate(zip(self.a, self.b, self.products, strict=True)):
            self._product(m, a, b, product, str(i))
        return m

    def _product(self, m: Module, a: Value, b: Value, product: Value, name: str) -> None:
        rows = (len(b) + 1) // 2
        digits = Cat(Const(0, 1), b, *([b[-1]] if len(b) % 2 else []))
        triples = [digits[2 * row : 2 * row + 3] for row in range(rows)]
        half = rows if rows <= 4 else (rows + 1) // 2
        cut = 2 * half
        low = self._rows(m, a, triples[:half], f"{name}_low")
        if half == rows:
            m.d.comb += product.eq(low[: len(product)])
        else:
            high = self._rows(m, a, triples[half:], f"{name}_high")
            joined = Signal(len(product) - cut, name=f"{name}_joined")
            m.d.comb += joined.eq(high.as_signed() + low[cut:].as_signed())
            m.d.comb += product.eq(Cat(low[:cut], joined))

    def _rows(self, m: Module, a: Value, digits: list[Value], name: str) -> Value:
        """The sum of d * a * 4**row over the digits d, each three bits in Booth's code."""
        width = len(a) + 2
        once = Cat(a, a[-1], a[-1])
        twice = Cat(Const(0, 1), a, a[-1])
        done: list[Value] = []
        above: Value = Const(0, width)
        for row, digit in enumerate(digits):
            one = digit[0] ^ digit[1]
            two = ~one & (digit[1] ^ digit[2])
            multiple = one.replicate(width) & once | two.replicate(width) & twice
            term = Signal(width, name=f"{name}_term_{row}")
            total = Signal(width + 1, name=f"{name}_row_{row}")
            m.d.comb += [
                term.eq(multiple ^ digit[2].replicate(width)),
                # the lowest bit makes the carry that completes a negation
                total.eq(Cat(digit[2], term) + Cat(Const(1, 1), above)),
            ]
            done.append(total[1:3])
            above = Cat(total[3:], total[-1], total[-1])
        return Cat(*done[:-1], total[1:])


def by_constant(m: Module, a: Value, factor: int, name: str) -> Value:
    """A value, not negative, that with `constant_apart` is a * factor: the sum is another's.

    An addition for each signed digit of the factor but the highest, by Horner's rule, of a with its
    sign turned over, or all of it where the digit is -1: neither is negative, so that above their
    bits carries alone go on.
    """
    n = len(a)
    upright = Cat(a[:-1], ~a[-1])
    total: Value = Const(0, 0)
    largest = above = 0
    for place, digit in reversed(signed_digits(factor)):
        operand = upright if digit > 0 else ~upright
        gap = above - place if largest else 0
        largest = (largest << gap) + (1 << n) - 1
        if gap >= n:
            total = Cat(operand, Const(0, gap - n), total)
        elif gap:
            joined = Signal(largest.bit_length() - gap, name=f"{name}_{place}")
            m.d.comb += joined.eq(total + operand[gap:])
            total = Cat(operand[:gap], joined)
        else:
            total = operand
        above = place
    return Cat(Const(0, above), total)


def _by_constant(m: Module, a: Value, factor: int, width: int, name: str) -> Value:
    """a * factor, by Horner's rule over signed digits of which few are not 0: an adder for each.

    Each sum is shifted before the next: Yosys merges a sum that goes into a sum, into more logic.
    """
    digits = dict(signed_digits(factor))
    total: Value = Const(0, signed(width))
    for place in reversed(range(max(digits, default=-1) + 1)):
        digit = digits.get(place, 0)
        total = (total << 1)[:width].as_signed()
        if digit:
            joined = Signal(signed(width), name=f"{name}_{place}")
            operand = a.as_signed()
            m.d.comb += joined.eq(total + operand if digit == 1 else total - operand)
            total = joined
    return total


XILINX = """\
  wire [47:0] p;
  {primitive} #(
    .ACASCREG(0), .ADREG(0), .A_INPUT("DIRECT"), .ALUMODEREG(0), .AREG(0), .BCASCREG(0),
    .B_INPUT("DIRECT"), .BREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .CREG(0), .DREG(0),
    .INMODEREG(0), .MREG(0), .OPMODEREG(0), .PREG(0), .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"),
    {parameters}
  ) dsp (
    .A({a}), .B({b}), .C(48'b0), .D({port}'b0), .P(p),
    .INMODE(5'b00000), .ALUMODE(4'b0000), .OPMODE({opmode}), .CARRYINSEL(3'b000),
    .ACIN(30'b0), .BCIN(18'b0), .PCIN(48'b0), .CARRYIN(1'b0)
  );
"""
"""Source: Yosys 0.70, xilinx/xcu_dsp_map.v and xc7_dsp_map.v: all registers off, P = A * B."""

XILINX_OF = {
    "xcup": {
        "primitive": "DSP48E2",
        "parameters": '.AMULTSEL("A"), .BMULTSEL("B")',
        "port": "27",
        "opmode": "9'b000000101",
    },
    "xc7": {
        "primitive": "DSP48E1",
        "parameters": '.USE_DPORT("FALSE")',
        "port": "25",
        "opmode": "7'b0000101",
    },
}


def primitive(family: str, a_width: int, b_width: int) -> str:
    """Verilog that drives wire p with the product of inputs a and b by one DSP of a family."""
    if family == "ecp5":
        return _ecp5(a_width, b_width)
    return XILINX.format(
        **XILINX_OF[family],
        a=_extended("a", a_width, 30),
        b=_extended("b", b_width, 18),
    )


def _ecp5(a_width: int, b_width: int) -> str:
    """Source: Yosys 0.70, lattice/dsp_map_18x18.v; both operands signed, no registers."""
    a = [f".A{i}(a[{min(i, a_width - 1)}])" for i in range(18)]
    b = [f".B{i}(b[{min(i, b_width - 1)}])" for i in range(18)]
    c = [f".C{i}(1'b0)" for i in range(18)]
    p = [f".P{i}(p[{i}])" for i in range(36)]
    modes = [".SIGNEDA(1'b1)", ".SIGNEDB(1'b1)", ".SOURCEA(1'b0)", ".SOURCEB(1'b0)"]
    lines = ["  wire [35:0] p;", "  MULT18X18D dsp ("]
    lines += ["    " + ", ".join(ports) + "," for ports in (a, b, c, p)]
    return "\n".join([*lines, "    " + ", ".join(modes), "  );", ""])


def _extended(name: str, width: int, port: int) -> str:
    if width == port:
        return name
    return f"{{{{{port - width}{{{name}[{width - 1}]}}}}, {name}}}"


INSTANCE = re.compile(r"\bsyq_(dsp_([a-z0-9]+)_(\d+)_(\d+))\b")


def define(verilog: str, top: str) -> str:
    """Verilog of component `top`, with the modules that its Multipliers are instances of.

    Each is the primitive where SYNTHESIS is defined; its name begins with that of the component, so
    that many files go together.
    """
    kinds = sorted({(m[1], m[2], int(m[3]), int(m[4])) for m in INSTANCE.finditer(verilog)})
    modules = [_module(f"{top}_{name}", family, a, b) for name, family, a, b in kinds]
    return "".join([INSTANCE.sub(rf"{top}_\1", verilog), *modules])


def _module(name: str, family: str, a: int, b: int) -> str:
    return (
        f"\nmodule {name}(a, b, product);\n"
        f"  input [{a - 1}:0] a;\n"
        f"  input [{b - 1}:0] b;\n"
        f"  output [{a + b - 1}:0] product;\n"
        "`ifdef SYNTHESIS\n"
        f"{primitive(family, a, b)}"
        f"  assign product = p[{a + b - 1}:0];\n"
        "`else\n"
        "  assign product = $signed(a) * $signed(b);\n"
        "`endif\n"
        "endmodule\n"
    )
