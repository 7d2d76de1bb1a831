"""Hostile and careless users: one line on standard error, the right exit code, nothing written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from syq_dse import records

from .workbench import BOARD, SMALL_SPACE, TINY

Refused = Callable[..., str]

HUGE = "9" * 5000
"""More digits than Python turns into a number."""

ESTIMATE = "estimate --network ./tiny.toml --target ./bench.toml --uniform binary,2,layer"

EXPLORE = "explore --network ./tiny.toml --target ./bench.toml " + " ".join(SMALL_SPACE)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bogus", "No such command 'bogus'; see `syq-dse --help`"),
        ("--zzz", "No such option '--zzz'; see `syq-dse --help`"),
        ("estimate --zzz", "No such option '--zzz'; see `syq-dse estimate --help`"),
        ("networks more", "Got unexpected extra argument (more); see `syq-dse networks --help`"),
        ("estimate --target zcu102", "Missing option '--network'; see `syq-dse estimate --help`"),
        ("plot", "Missing argument 'RUN'; see `syq-dse plot --help`"),
        (
            "estimate --network cnv --target zcu102",
            "give either --scheme FILE or --uniform WEIGHTS,BITS,GRANULARITY;"
            " see `syq-dse estimate --help`",
        ),
        (
            f"{ESTIMATE} --scheme scheme.toml",
            "give either --scheme FILE or --uniform WEIGHTS,BITS,GRANULARITY;"
            " see `syq-dse estimate --help`",
        ),
        (
            f"{ESTIMATE} --interval 9 --fps 9",
            "give either --interval or --fps; see `syq-dse estimate --help`",
        ),
        (
            f"{ESTIMATE} --interval 0",
            "Invalid value for '--interval': 0 is not in the range x>=1;"
            " see `syq-dse estimate --help`",
        ),
        (
            f"{ESTIMATE} --fps fast",
            "Invalid value for '--fps': 'fast' is not a valid float; see `syq-dse estimate --help`",
        ),
        (
            "explore --network ./tiny.toml",
            "--target is missing; `syq-dse targets` lists them; see `syq-dse explore --help`",
        ),
        (
            f"{EXPLORE} --resume",
            "--resume needs the run's folder: --out runs/NAME; see `syq-dse explore --help`",
        ),
        (
            "export runs -o ''",
            "Invalid value for '-o' / '--out': must not be empty; '.' is the folder of now;"
            " see `syq-dse export --help`",
        ),
        (
            "export runs --format pdf",
            "Invalid value for '--format': 'pdf' is not one of 'train', 'brevitas', 'qonnx', "
            "'onnx', 'finn', 'hls4ml'; see `syq-dse export --help`",
        ),
    ],
)
def test_wrong_usage_exits_2(refused: Refused, command: str, message: str) -> None:
    assert refused(*shlex.split(command), code=2) == message


def test_no_arguments_show_the_help_and_exit_2(cli) -> None:
    done = cli()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: syq-dse [OPTIONS] COMMAND")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e400"])
@pytest.mark.parametrize("option", ["--fps", "--limit", "--clock"])
@pytest.mark.parametrize("command", [ESTIMATE, EXPLORE], ids=["estimate", "explore"])
def test_a_number_that_means_nothing_is_refused(
    refused: Refused, command: str, option: str, value: str
) -> None:
    assert option[2:] in refused(*command.split(), f"{option}={value}")


@pytest.mark.parametrize("value", ["1e300", "2000.1", "0.99"])
@pytest.mark.parametrize("command", [ESTIMATE, EXPLORE], ids=["estimate", "explore"])
def test_a_clock_that_no_fabric_has_is_refused(refused: Refused, command: str, value: str) -> None:
    assert "clock" in refused(*command.split(), "--clock", value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--network lenet --target zcu102 --uniform binary,2,row", "(did you mean 'lenet5'?)"),
        ("--network cnv --target zcu10 --uniform binary,2,row", "(did you mean 'zcu104'?)"),
        ("--network '' --target zcu102 --uniform binary,2,row", "unknown network ''"),
        ("--network .. --target zcu102 --uniform binary,2,row", "unknown network '..'"),
        ("--network ./none.toml --target zcu102 --uniform binary,2,row", "no such file"),
        ("--network ./bench.toml --target zcu102 --uniform binary,2,row", "unknown key"),
        ("--network cnv --target ./tiny.toml --uniform binary,2,row", "unknown key"),
        ("--network cnv --target zcu102 --uniform binary,2", "for example ternary,4,pixel"),
        ("--network cnv --target zcu102 --uniform binary,0,row", "must be 1 to 8, got"),
        ("--network cnv --target zcu102 --uniform binary,9,row", "must be 1 to 8, got"),
        ("--network cnv --target zcu102 --uniform binary,²,row", "must be 1 to 8, got '²'"),
        (f"--network cnv --target zcu102 --uniform binary,{HUGE},row", "must be 1 to 8, got"),
        ("--network cnv --target zcu102 --uniform bin,2,row", "weights: must be one of binary, "),
        ("--network cnv --target zcu102 --uniform binary,2,rows", "granularity: must be one of"),
        ("--network cnv --target zcu102 --uniform binary,2,row,x", "scale: must be one of fixed8"),
        (f"--network cnv --target zcu102 --uniform binary,2,row --interval {2**60}", "interval"),
    ],
)
def test_a_wrong_value_of_estimate_exits_1(refused: Refused, options: str, message: str) -> None:
    assert message.lower() in refused("estimate", *shlex.split(options)).lower()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--objective acc", "unknown objective 'acc'; known: accuracy, fps, "),
        ("--objective fps", "two to four different objectives are needed, got fps"),
        ("--objective fps --objective fps", "two to four different objectives are needed"),
        ("--sampler nsga", "sampler: must be one of exact, nsga2"),
        ("--trials -1", "trials must be 0 to 10000000, got -1"),
        ("--seed -1", "seed must be 0 to 4294967295, got -1"),
        ("--weights bin", "space.weights[0]: must be one of binary, ternary, "),
        ("--weights ''", "space.weights[0]: must be one of binary, ternary, "),
        ("--granularity cell", "space.granularity[0]: must be one of layer, row, "),
        ("--scale float", "space.scale[0]: must be one of fixed8, shift"),
        ("--bits two", "--bits must be numbers with commas, got 'two'"),
        (f"--bits {HUGE}", "--bits must be numbers with commas, got '999"),
        ("--bits 0,2", "bits must be 1 to 8, got [0, 2]"),
        ("--bits 2,2", "bits must list at least one value, none twice"),
        ("--intervals 0", "intervals must be 1 to 1024, got 0"),
        ("--study none.toml", "study 'none.toml': no such file"),
        ("--study ./", "study './': no such file"),
        ("--study cnv", "unknown study 'cnv'; known: "),
        ("--study bench.toml", "bench.toml: unknown key 'name'"),
        ("--resume --out none", "none: holds no run (study.toml is missing)"),
        ("--out tiny.toml", "tiny.toml: is not a folder; give another --out"),
        ("--out tiny.toml/run", "tiny.toml/run: cannot be written: Not a directory"),
        ("--out .", ".: is not empty; --resume goes on with a run, --out starts one"),
        (f"--out {'x' * 300}", "File name too long"),
        ("--storage nosuch://host/base", "storage 'nosuch://host/base': cannot be opened"),
        ("--storage ://", "storage '://': cannot be opened"),
        ("--storage none/file.journal", "storage 'none/file.journal': cannot be opened"),
        ("--storage tiny.toml", "storage 'tiny.toml': cannot be opened"),
        ("--storage .", "storage '.': cannot be opened"),
    ],
)
def test_a_wrong_value_of_explore_exits_1(refused: Refused, options: str, message: str) -> None:
    assert message in refused(*EXPLORE.split(), *shlex.split(options))


def test_a_password_in_the_storage_is_not_shown(refused: Refused) -> None:
    message = refused(*EXPLORE.split(), "--storage", "nosuch://user:secret@host/base")
    assert "secret" not in message
    assert "host/base" in message


BROKEN_NETWORKS = {
    "not TOML": ("name = ", "does not parse as TOML"),
    "empty": ("", "the key 'name' is missing"),
    "binary": (b"\xff\xfe\x00", "is not UTF-8 text (byte 0)"),
    "nested": ("x = " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
    "unknown key": (TINY + 'colour = "red"\n', "unknown key 'colour'"),
    "unknown key of two lines": (TINY + '"a\\nb" = 1\n', "unknown key 'a\\nb'"),
    "string for a number": (TINY.replace("classes = 4", 'classes = "4"'), "must be an integer"),
    "negative": (TINY.replace("classes = 4", "classes = -4"), "must be 1 to 1048576, got -4"),
    "no rows": (TINY.replace("[1, 8, 8]", "[1, 0, 8]"), "must be 1 to 1048576, got [1, 0, 8]"),
    "two sizes": (TINY.replace("[1, 8, 8]", "[1, 8]"), "must have 3 items, got 2"),
    "huge": (TINY.replace("k = 3", f"k = 1{'0' * 30}"), "layers[0].k: must be an integer"),
    "kernel past its input": (TINY.replace("k = 3", "k = 9"), "conv1: the kernel must fit"),
    "cycle": (
        TINY.replace('name = "conv1",', 'name = "conv1", input = "conv2",'),
        "the layers form a cycle: conv1 <- conv2 <- conv1",
    ),
    "unknown input": (
        TINY.replace('name = "conv2",', 'name = "conv2", input = "conv9",'),
        "unknown input 'conv9'",
    ),
    "two of a name": (TINY.replace('"conv2"', '"conv1"'), "names must differ"),
    "layer of two lines": (TINY.replace('"conv2"', '"conv\\n2"'), "got 'conv\\n2'"),
    "unknown operator": (TINY.replace('"flatten" }', '"squash" }'), "unknown op 'squash'"),
    "more MACs than count": (
        TINY.replace("[1, 8, 8]", "[1048576, 1048576, 1048576]"),
        "must be at most 17592186044416, got",
    ),
    "name that climbs": (TINY.replace('"tiny"', '"../../tiny"'), "got '../../tiny'"),
    "name with a slash": (TINY.replace('"tiny"', '"a/b"'), "got 'a/b'"),
    "name of two lines": (TINY.replace('"tiny"', '"a\\nb"'), "got 'a\\nb'"),
    "name with a zero": (TINY.replace('"tiny"', '"a\\u0000b"'), "got 'a\\x00b'"),
    "no name": (TINY.replace('"tiny"', '""'), "got ''"),
    "long name": (TINY.replace('"tiny"', f'"{"x" * 200}"'), "got 'xxx"),
}


@pytest.mark.parametrize("command", [ESTIMATE, EXPLORE], ids=["estimate", "explore"])
@pytest.mark.parametrize("what", BROKEN_NETWORKS)
def test_a_broken_network_exits_1(
    refused: Refused, workplace: Path, what: str, command: str
) -> None:
    text, message = BROKEN_NETWORKS[what]
    content = text if isinstance(text, bytes) else text.encode()
    (workplace / "tiny.toml").write_bytes(content)
    found = refused(*command.split())
    assert found.startswith("tiny.toml: ")
    assert message in found


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("clock_mhz = 100", "clock_mhz = nan", "bench.toml: clock_mhz: must be a finite number"),
        ("lut = 20800", "lut = -1", "bench.toml: capacity: lut must be at least 1, got -1"),
        ("lut = 20800", f"lut = {2**60}", "bench.toml: capacity.lut: must be an integer"),
        ("= 1.3", "= 1e299", "bench.toml: dram: bandwidth_gb_s must be"),
        ('"xc7"', '"xc9"', "unknown family 'xc9'; known: ecp5, xc7, xcup"),
        ('"xc7"', '"../fpga/zcu102"', "family '../fpga/zcu102': no such file"),
        ('"bench"', '"../../bench"', "got '../../bench'"),
        ('"bench"', '"a\\nb"', "got 'a\\nb'"),
    ],
)
@pytest.mark.parametrize("command", [ESTIMATE, EXPLORE], ids=["estimate", "explore"])
def test_a_broken_board_exits_1(
    refused: Refused, workplace: Path, line: str, instead: str, message: str, command: str
) -> None:
    assert BOARD.count(line) == 1
    (workplace / "bench.toml").write_text(BOARD.replace(line, instead))
    assert message in refused(*command.split())


BROKEN_SCHEMES = {
    "empty": ("", "scheme.toml: the key 'layers' is missing"),
    "not a table": ("layers = 3", "scheme.toml: layers: must be a table, got 3"),
    "unknown layer": (
        "[layers.conv9]\nbits = 3",
        "scheme.toml: layers.conv9: unknown layer 'conv9'; known: conv1, conv2, conv3, flatten, "
        "dense (did you mean 'conv3'?)",
    ),
    "no such bits": (
        "[layers.conv2]\nbits = 9",
        "scheme.toml: layers.conv2.bits must be 1 to 8, got 9",
    ),
    "half bits": (
        "[layers.conv2]\nbits = 2.5",
        "scheme.toml: layers.conv2.bits: must be an integer, got 2.5",
    ),
    "bits of the result": (
        "[layers.dense]\nbits = 3",
        "scheme.toml: layers.dense: the last layer writes accumulators; bits does not apply",
    ),
    "residual bits": (
        "[layers.conv2]\nresidual_bits = 3",
        "scheme.toml: layers.conv2: this tensor's precision is 'bits', got 'residual_bits'",
    ),
    "weights of flatten": (
        '[layers.flatten]\nweights = "binary"',
        "scheme.toml: layers.flatten: weights is for layers with weights only",
    ),
    "another network's": (
        'network = "cnv"\nlayers = {}',
        "scheme.toml: is a scheme of 'cnv', got network 'tiny'",
    ),
    "another's, of two lines": (
        'network = "c\\nv"\nlayers = {}',
        "scheme.toml: is a scheme of 'c\\nv', got network 'tiny'",
    ),
    "illegal pe": (
        "layers = {}\n[folding.conv2]\npe = 3\nsimd = 1",
        "scheme.toml: folding.conv2.pe: must be one of 1, 2, 4, got 3",
    ),
    "negative pe": (
        "layers = {}\n[folding.conv2]\npe = -1\nsimd = 1",
        "scheme.toml: folding.conv2.pe: must be one of 1, 2, 4, got -1",
    ),
    "illegal simd": (
        "layers = {}\n[folding.conv2]\npe = 1\nsimd = 5",
        "scheme.toml: folding.conv2.simd: must be one of 1, 2, 4, 12, 36, got 5",
    ),
    "half a folding": (
        "layers = {}\n[folding.conv2]\npe = 1",
        "scheme.toml: folding.conv2: the key 'simd' is missing",
    ),
    "folding of nothing": (
        "layers = {}\n[folding.flatten]\npe = 1\nsimd = 1",
        "scheme.toml: folding.flatten: unknown layer with weights 'flatten'; "
        "known: conv1, conv2, conv3, dense",
    ),
    "weights of a conv in DRAM": (
        'layers = {}\n[folding.conv2]\npe = 1\nsimd = 1\nram_style = "dram"',
        "scheme.toml: folding.conv2.ram_style: only dense layers stream from dram",
    ),
    "UltraRAM that the family has not": (
        'layers = {}\n[folding.conv2]\npe = 1\nsimd = 1\nram_style = "ultra"',
        "folding.conv2.ram_style: bench offers distributed, block, got 'ultra'",
    ),
}


@pytest.mark.parametrize("what", BROKEN_SCHEMES)
def test_a_broken_scheme_exits_1(refused: Refused, workplace: Path, what: str) -> None:
    text, message = BROKEN_SCHEMES[what]
    (workplace / "scheme.toml").write_text(text)
    command = ESTIMATE.removesuffix(" --uniform binary,2,layer")
    assert refused(*command.split(), "--scheme", "scheme.toml") == message


BROKEN_POINTS = {
    "not JSON": ('{"scheme": ', "does not parse as JSON"),
    "a list": ("[]", "must hold a table of keys, got []"),
    "a key twice": ('{"layers": {}, "layers": {}}', "stands twice in one table"),
    "of another network": (
        '{"network": "cnv", "scheme": {"layers": {}}}',
        "point.json: is a point of 'cnv', got network 'tiny'",
    ),
    "no table": ('{"scheme": 3}', "point.json: scheme: must be a table"),
    "clock as text": ('{"scheme": {"layers": {}}, "clock_mhz": "9"}', "clock_mhz must be a number"),
    "no clock": ('{"scheme": {"layers": {}}, "clock_mhz": 0}', "clock_mhz must be"),
    "yes for a clock": ('{"scheme": {"layers": {}}, "clock_mhz": true}', "clock_mhz must be"),
    "NaN for a clock": ('{"scheme": {"layers": {}}, "clock_mhz": NaN}', "clock"),
    "huge clock": (f'{{"scheme": {{"layers": {{}}}}, "clock_mhz": 1{"0" * 400}}}', "clock"),
    "no interval": (
        '{"scheme": {"layers": {}}, "interval_cycles": 0}',
        "point.json: interval_cycles must be a positive integer, got 0",
    ),
    "huge interval": (
        f'{{"scheme": {{"layers": {{}}}}, "interval_cycles": 1{"0" * 400}}}',
        "interval",
    ),
    "no folding": (
        '{"scheme": {"layers": {}}, "folding": null}',
        "point.json: folding: must be a table, got None",
    ),
    "half a surrogate": ('{"layers": {"\\ud800": {"bits": 3}}}', "unknown layer '\\ud800'"),
}


@pytest.mark.parametrize("what", BROKEN_POINTS)
def test_a_broken_point_exits_1(refused: Refused, workplace: Path, what: str) -> None:
    text, message = BROKEN_POINTS[what]
    (workplace / "point.json").write_text(text)
    command = ESTIMATE.removesuffix(" --uniform binary,2,layer")
    assert message in refused(*command.split(), "--scheme", "point.json")


def test_a_scheme_file_that_is_a_folder_or_has_no_end(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LARGEST_FILE", 2**16)
    command = ESTIMATE.removesuffix(" --uniform binary,2,layer").split()
    assert refused(*command, "--scheme", ".") == ".: cannot be read: Is a directory"
    assert (
        refused(*command, "--scheme", "none") == "none: cannot be read: No such file or directory"
    )
    endless = "/dev/zero: a description has at most 65536 bytes"
    assert refused(*command, "--scheme", "/dev/zero") == endless
    assert refused(*command, "--scheme", "x" * 300).endswith("File name too long")


@pytest.mark.parametrize("name", ["no/such\nfile", "no/such\rfile", "no/such\x1b[31mfile"])
def test_a_path_cannot_break_the_line(refused: Refused, name: str) -> None:
    shown = repr(name)
    message = refused("estimate", "--network", name, "--target", "cnv", "--uniform", "int8,8,row")
    assert message == f"network {shown}: no such file"


@pytest.mark.parametrize(
    "name", ["with space.toml", "größe ∂.toml", "-dash.toml", "two\nlines.toml"]
)
def test_odd_paths_work(cli, workplace: Path, name: str) -> None:
    (workplace / name).write_text(TINY)
    (workplace / f"scheme {name}").write_text("[layers.conv2]\nbits = 3\n")
    selectors = ("--network", f"./{name}", "--target", "zcu102", "--json")
    assert cli("estimate", *selectors, "--scheme", f"scheme {name}").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--interval 71",
            "tiny: an interval of 71 cycles is 1 less than conv1 needs with its fastest folding; "
            "the least is 72",
        ),
        ("--fps 1e9", "1e+09 fps at 100 MHz leave no whole cycle an image"),
        (
            "--fps 10e6",
            "tiny: an interval of 10 cycles is 62 less than conv1 needs with its fastest folding; "
            "the least is 72",
        ),
    ],
)
def test_an_interval_that_no_folding_meets_exits_3(
    refused: Refused, options: str, message: str
) -> None:
    assert refused(*ESTIMATE.split(), *options.split(), code=3) == message


def test_a_given_folding_that_misses_the_interval_exits_3(
    refused: Refused, workplace: Path
) -> None:
    (workplace / "scheme.toml").write_text("layers = {}\n[folding.conv2]\npe = 1\nsimd = 1\n")
    command = ESTIMATE.removesuffix(" --uniform binary,2,layer")
    message = refused(*command.split(), "--scheme", "scheme.toml", "--interval", "100", code=3)
    # 16 pixels, 4 outputs, 36 inputs of each.
    assert message == "folding.conv2: takes 2304 cycles, 2204 more than 100"


def test_a_network_too_big_for_the_part_exits_3(refused: Refused) -> None:
    command = "explore --network resnet50 --target pynq-z1 --intervals 2 --bits 4 --weights int8"
    message = refused(*command.split(), code=3)
    found = re.match(r"resnet50: needs at least (\d+) bram18, (\d+) more than 224, 0.8 of", message)
    assert found is not None, message
    assert int(found[1]) - int(found[2]) == 224  # 0.8 of 280


def test_limits_that_can_be_kept_singly_but_not_together_exit_3(refused: Refused) -> None:
    command = "explore --network alexnet --target ulx3s-85f --intervals 2 --bits 4 --weights int8"
    message = refused(*command.split(), code=3)
    assert " bram18 within the other limits, " in message
    assert "0.8 of ulx3s-85f's" in message


def test_a_frame_rate_past_the_space_exits_3(refused: Refused) -> None:
    assert refused(*EXPLORE.split(), "--fps", "1e9", code=3).endswith("the least is 72")


def test_nothing_is_left_in_a_folder_that_was_there(refused: Refused, cli, workplace: Path) -> None:
    (workplace / "mine").mkdir()
    refused(*EXPLORE.split(), "--out", "mine", "--limit", "1e-6", code=3)
    assert cli(*EXPLORE.split(), "--out", "mine").code == 0
