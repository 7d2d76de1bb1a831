"""FINN's own code reads what is written for it: builder's steps, ApplyConfig, cycles, widths."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("finn")

from syq_dse import network
from syq_dse.cost import estimate
from syq_dse.cost.folding import Folding, cycles
from syq_dse.cost.integers import ints
from syq_dse.errors import InputError
from syq_dse.interop import finn
from syq_dse.interop.finn import Unit
from syq_dse.interop.point import Point
from syq_dse.network import (
    Add,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Recipe,
)
from syq_dse.scheme import LayerScheme, uniform

from .quantised import exported, point

pytestmark = [
    pytest.mark.filterwarnings("ignore:Assuming [24]D input is:UserWarning"),
    pytest.mark.filterwarnings("ignore:find_consumer. found multiple consumers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The GemmToMatMul transformation only offers:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of numpy, in qonnx and finn
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def made(*layers: Layer, shape: tuple[int, int, int] = (3, 16, 16), classes: int = 10) -> Network:
    recipe = Recipe(dataset="cifar10")
    file = NetworkFile(
        name="made", provenance="", classes=classes, input=shape, recipe=recipe, layers=layers
    )
    return network.build(file)


def last(c_out: int = 10) -> Dense:
    return Dense(name="fc", c_out=c_out, batch_norm=False, relu=False)


DEPTHWISE = made(
    Conv(name="conv1", c_out=8, k=3, pad=1),
    Conv(name="depth", c_out=8, k=3, pad=1, groups=8),
    Conv(name="point", c_out=16, k=1),
    MaxPool(name="pool", k=2),
    Conv(name="conv2", c_out=16, k=3),
    Flatten(name="flatten"),
    last(),
)

BOTTLENECKS = made(
    Conv(name="first", c_out=8, k=3, pad=1),
    MaxPool(name="half", k=2),
    Conv(name="stem", c_out=8, k=3, pad=1),
    MaxPool(name="pool", k=3, stride=2, pad=1),
    Conv(name="a1", c_out=4, k=1),
    Conv(name="a2", c_out=4, k=3, pad=1),
    Conv(name="a3", c_out=16, k=1, relu=False),
    Conv(name="shortcut a", input="pool", c_out=16, k=1, relu=False),
    Add(name="a", inputs=("a3", "shortcut a")),
    Conv(name="shortcut b", c_out=32, k=1, stride=2, relu=False),
    Conv(name="b1", input="a", c_out=32, k=3, stride=2, pad=1),
    Conv(name="b2", c_out=32, k=3, pad=1, relu=False),
    Add(name="b", inputs=("b2", "shortcut b")),
    Conv(name="shortcut c", c_out=16, k=3, pad=1, relu=False),
    Conv(name="c1", input="b", c_out=8, k=3, pad=1),
    Conv(name="c2", c_out=16, k=1, relu=False),
    Add(name="c", inputs=("c2", "shortcut c")),
    GlobalAvgPool(name="mean"),
    last(),
)

NETWORKS: dict[str, Callable[[], Network]] = {
    "lenet5": lambda: network.load("lenet5"),
    "cnv": lambda: network.load("cnv"),
    "resnet8": lambda: network.load("resnet8"),
    "cybersec-mlp": lambda: network.load("cybersec-mlp"),
    "depthwise": lambda: DEPTHWISE,
    "bottlenecks": lambda: BOTTLENECKS,
}


@pytest.fixture(scope="module")
def steps() -> Any:
    """FINN's builder; where there is no Vivado it has no simulator, and no step here needs one."""
    from finn.util.settings import initialize_dummy_settings

    initialize_dummy_settings()
    import finn.xsi

    finn.xsi.SimEngine = object
    from finn.builder import build_dataflow_steps

    return build_dataflow_steps


def built(steps: Any, asked: Point, written: list[Path], out: Path) -> Any:
    """The design as FINN's builder has it once it is folded."""
    from finn.builder.build_dataflow_config import DataflowBuildConfig, default_build_dataflow_steps
    from finn.builder.custom_step_library import resnet
    from qonnx.core.modelwrapper import ModelWrapper

    config = DataflowBuildConfig(
        output_dir=str(out),
        synth_clk_period_ns=1000 / asked.design.clock_mhz,
        generate_outputs=[],
        fpga_part=asked.pricing.target.part,  # type: ignore[union-attr]
        folding_config_file=str(written[0]),
        specialize_layers_config_file=str(written[1]),
    )
    ordered = default_build_dataflow_steps[
        : default_build_dataflow_steps.index("step_minimize_bit_width") + 1
    ]
    text = written[2].read_text()
    if "  steps:" in text:
        listed = [line.removeprefix("    - ") for line in text.splitlines() if "    - " in line]
        known = listed.pop().split(",")[0]
        ordered = listed + ordered[ordered.index(known) :]
    model = ModelWrapper(str(exported(asked.network, asked.scheme, out)))
    for step in ordered:
        home = resnet if "." in step else steps
        model = getattr(home, step.rpartition(".")[2])(model, config)
    return model


def folded(
    steps: Any, asked: Point, out: Path, caplog: pytest.LogCaptureFixture
) -> tuple[Any, dict[str, Unit]]:
    """What the builder makes of the files, and our nodes by name; every one must be known."""
    written = finn.write(asked, out)
    model = built(steps, asked, written, out / "build")
    found = finn.units(asked)
    named = dict(zip(finn.names(found, specialised=True), found, strict=True))
    assert "Unused HW configurations" not in caplog.text
    assert set(named) <= {node.name for node in model.graph.node}
    return model, named


@pytest.mark.parametrize(
    ("name", "weights", "bits", "slower"),
    [
        ("lenet5", "ternary", 4, 1),
        ("lenet5", "int4", 2, 100),
        ("cnv", "binary", 2, 7),
        ("resnet8", "ternary", 4, 3),
        ("cybersec-mlp", "ternary", 2, 100),
        ("depthwise", "int4", 3, 1),
        ("depthwise", "binary", 2, 9),
        ("bottlenecks", "int3", 4, 5),
    ],
)
def test_builder_folds_as_the_design_does(
    name: str,
    weights: Any,
    bits: int,
    slower: int,
    steps: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = NETWORKS[name]()
    least = max(estimate.least_intervals(net).values())
    asked = point(net, uniform(net, LayerScheme(weights=weights), bits), slower * least)
    model, named = folded(steps, asked, tmp_path, caplog)

    from finn.analysis.fpgadataflow.exp_cycles_per_layer import exp_cycles_per_layer
    from qonnx.custom_op.registry import getCustomOp

    counted = model.analysis(exp_cycles_per_layer)
    geos = estimate.geometries(net)
    engines = set()
    for node in model.graph.node:
        op = getCustomOp(node)
        streams = [n for n in node.input if model.get_initializer(n) is None]
        for index in range(len(streams)):
            op.get_folded_input_shape(index)  # asserts that PE and SIMD divide
        op.get_folded_output_shape()
        if node.name not in named:
            others = ["Shuffle"] if name == "bottlenecks" else []
            assert node.op_type in ("ElementwiseMul_hls", "ElementwiseAdd_hls", *others)
            continue
        unit = named[node.name]
        assert node.op_type == f"{unit.op}_{unit.style}"
        assert counted[node.name] == unit.cycles
        assert {key: op.get_nodeattr(key) for key in unit.attributes} == unit.attributes
        if unit.op in ("MVAU", "VVAU"):
            engines.add(unit.layer)
            op.calc_wmem()
            fold = asked.design.folding[unit.layer]
            ours = cycles(geos[unit.layer], ints(fold.pe), ints(fold.simd))
            assert counted[node.name] == int(ours)
        of = net.by_name.get(unit.layer)
        match unit.op:
            case "MVAU":
                assert of is not None
                assert (op.get_nodeattr("MH"), op.get_nodeattr("MW")) == (of.out_shape.c, of.fan_in)
            case "VVAU" | "Pool":
                assert of is not None
                assert op.get_nodeattr("Channels") == of.out_shape.c
            case "ConvolutionInputGenerator":
                assert of is not None
                assert op.get_nodeattr("ConvKernelDim") == [of.k, of.k]
                assert op.get_nodeattr("IFMChannels") == of.in_shape.c
                op.select_impl_style()  # asserts what SIMD must be
    assert engines == set(geos)


def test_widths_meet_or_can_be_converted(
    steps: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from finn.analysis.fpgadataflow.res_estimation import res_estimation
    from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
    from qonnx.transformation.general import GiveUniqueNodeNames

    asked = point(DEPTHWISE, uniform(DEPTHWISE, LayerScheme(weights="int4"), 4), 3000)
    model, _ = folded(steps, asked, tmp_path, caplog)
    model = model.transform(InsertDWC()).transform(GiveUniqueNodeNames())
    assert len(model.get_nodes_by_op_type("StreamingDataWidthConverter")) > 2
    part = asked.pricing.target.part  # type: ignore[union-attr]
    found = model.analysis(functools.partial(res_estimation, fpgapart=part))
    assert all(one["LUT"] >= 0 for one in found.values())


def test_folding_that_hls_cannot_have_is_exchanged(
    steps: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An HLS MVAU needs SIMD >= MW / 1024; the next one is of the same speed where there is one."""
    net = made(
        Conv(name="conv1", c_out=256, k=3),
        Conv(name="conv2", c_out=4, k=3),
        Flatten(name="flatten"),
        last(),
        shape=(3, 6, 6),
    )
    fold = Folding(pe=4, simd=1)
    chosen = uniform(net, LayerScheme(weights="ternary"), 2)
    asked = point(net, chosen, 20000, folding={"conv2": fold})
    model, named = folded(steps, asked, tmp_path, caplog)
    name = next(n for n, unit in named.items() if unit.layer == "conv2" and unit.op == "MVAU")
    assert named[name].attributes == {
        "PE": 1,
        "SIMD": 4,
        "resType": "lut",
        "mem_mode": "internal_decoupled",
        "ram_style": "distributed",
    }
    text = (tmp_path / f"{asked.name}_finn.txt").read_text()
    assert "PE 1, SIMD 4 in place of 4, 1: FINN needs a SIMD of at least 3" in text
    assert named[name].cycles == 4 * 9 * 256

    from qonnx.custom_op.registry import getCustomOp

    op = getCustomOp(next(node for node in model.graph.node if node.name == name))
    op.code_gen_dict = {}
    op.defines("ipgen")  # asserts it


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        (Folding(pe=1, simd=8, ram_style="block"), {"ram_style": "block"}),
        (Folding(pe=1, simd=8, ram_style="dram"), {"mem_mode": "external"}),
        (
            Folding(pe=1, simd=8, ram_style="ultra"),
            {"ram_style": "ultra", "runtime_writeable_weights": 1},
        ),
        (Folding(pe=16, simd=400), {"mem_mode": "internal_embedded"}),
    ],
)
def test_weights_are_where_the_design_has_them(
    fold: Folding, expected: dict[str, Any], tmp_path: Path
) -> None:
    net = made(Dense(name="wide", c_out=16), last(), shape=(400, 1, 1))
    chosen = uniform(net, LayerScheme(), 8)
    asked = point(net, chosen, 20000, "u250", folding={"wide": fold})
    written = json.loads(finn.write(asked, tmp_path)[0].read_text())["MVAU_hls_0"]
    assert {"mem_mode": "internal_decoupled"} | written == written or "ram_style" not in expected
    assert {key: written.get(key) for key in expected} == expected


def test_results_in_dsp_are_rtl_and_on_7_series_hls(tmp_path: Path) -> None:
    net = made(Dense(name="first", c_out=16), last(), shape=(64, 1, 1))
    chosen = uniform(net, LayerScheme(weights="int8"), 8)
    fold = {"fc": Folding(pe=1, simd=8, res_type="dsp")}
    for target, name in (("zcu102", "MVAU_rtl_0"), ("pynq-z1", "MVAU_hls_1")):
        asked = point(net, chosen, 20000, target, folding=fold)
        folding, styles, _ = finn.write(asked, tmp_path)
        assert json.loads(folding.read_text())[name]["resType"] == "dsp"
        style = json.loads(styles.read_text())["MVAU_1"]
        assert style == {"preferred_impl_style": name[5:8]}


def test_slower_windows_are_told(tmp_path: Path) -> None:
    asked = point(DEPTHWISE, uniform(DEPTHWISE, LayerScheme(weights="int4"), 4))
    text = finn.write(asked, tmp_path)[2].read_text()
    assert asked.design.interval == 256
    assert "FMPadding_rtl_0, conv1, 324; 68 cycles too many" in text
    assert "standalone_thresholds: false" in text


def test_inputs_of_one_bit_are_told(tmp_path: Path) -> None:
    net = network.load("lenet5")
    asked = point(net, uniform(net, LayerScheme(weights="binary"), 1), 20000)
    text = finn.write(asked, tmp_path)[2].read_text()
    assert "FINN builds no MVAU or VVAU that reads 0 and 1: give its input 2 bits" in text
    assert text.count("that reads 0 and 1") == 3  # the first and the last layer read 8 bits


@pytest.mark.parametrize(
    ("net", "layer", "target", "message"),
    [
        (
            DEPTHWISE,
            LayerScheme(weights="ternary", granularity="pixel"),
            "zcu102",
            "made-zcu102-1: depth: FINN scales a layer or a channel as one, got granularity "
            "'pixel'; explore with --granularity layer,channel",
        ),
        (
            made(
                Conv(name="a", c_out=8, k=3),
                Conv(name="b", c_out=8, k=3, groups=2),
                Flatten(name="f"),
                last(),
            ),
            LayerScheme(),
            "zcu102",
            "made-zcu102-1: b: FINN convolves all channels or each by itself, got groups=2, "
            "c_in=8, c_out=8; change the network",
        ),
        (
            made(Conv(name="a", c_out=8, k=3), AvgPool(name="p", k=2), Flatten(name="f"), last()),
            LayerScheme(),
            "zcu102",
            "made-zcu102-1: p: FINN averages whole images only, got avg_pool; use "
            "global_avg_pool or max_pool",
        ),
        (
            made(
                Conv(name="a", c_out=8, k=3),
                MaxPool(name="p", k=2, stride=3),
                Flatten(name="f"),
                last(),
            ),
            LayerScheme(),
            "zcu102",
            "made-zcu102-1: p: FINN's pools skip no pixel, got k=2, stride=3",
        ),
        (
            DEPTHWISE,
            LayerScheme(),
            "ulx3s-85f",
            "made-ulx3s-85f-1: FINN builds for parts of AMD, got target 'ulx3s-85f'; explore "
            "with another --target",
        ),
        (
            DEPTHWISE,
            LayerScheme(),
            "ihp-sg13g2",
            "made-ihp-sg13g2-1: FINN builds for parts of AMD, got target 'ihp-sg13g2'; explore "
            "with another --target",
        ),
    ],
)
def test_what_finn_has_not_is_refused(
    net: Network, layer: LayerScheme, target: str, message: str, tmp_path: Path
) -> None:
    asked = point(net, uniform(net, layer, 4), 100_000, target)
    with pytest.raises(InputError) as caught:
        finn.write(asked, tmp_path)
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())
