"""`networks` and `targets`: the tables and the documents say the same."""

from __future__ import annotations

import json

import pytest

from syq_dse import catalogue, network, records, target, technology


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_networks_as_json(cli) -> None:
    done = cli("networks", "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    assert [row["network"] for row in rows] == catalogue.names("models")
    for row in rows:
        net = network.load(row["network"])
        assert (row["layers"], row["macs"]) == (len(net.engines), net.macs)
        assert (row["parameters"], row["provenance"]) == (net.parameters, net.file.provenance)


def test_networks_as_a_table(cli) -> None:
    rows = json.loads(cli("networks", "--json").out)
    header, *lines = table(cli("networks").out)
    assert header == ["network", "input", "layers", "MMAC", "parameters", "dataset"]
    for row, line in zip(rows, lines[: len(rows)], strict=True):
        mmac = f"{row['macs'] / 1e6:.2f}"
        assert line == [
            row["network"],
            row["input"],
            str(row["layers"]),
            mmac,
            str(row["parameters"]),
            row["dataset"],
        ]


def test_targets_as_json(cli) -> None:
    done = cli("targets", "--json")
    assert (done.code, done.err) == (0, "")
    boards = [target.load(name) for name in catalogue.names("hwmodels", "fpga")]
    silicon = [technology.load(name) for name in catalogue.names("hwmodels", "asic")]
    assert json.loads(done.out) == [records.plain(one) for one in (*boards, *silicon)]


def test_targets_as_a_table(cli) -> None:
    every = json.loads(cli("targets", "--json").out)
    boards = [one for one in every if "capacity" in one]
    first, second = cli("targets").out.split("\n\n")
    header, *lines = table(first)
    assert header[:7] == ["target", "family", "lut", "ff", "dsp", "bram18", "uram"]
    for board, line in zip(boards, lines, strict=True):
        counts = [board["capacity"][name] for name in header[2:7]]
        bandwidth = f"{board['dram']['bandwidth_gb_s']:.2f}"
        clock = f"{board['clock_mhz']:.0f}"
        assert line == [board["name"], board["family"], *map(str, counts), bandwidth, clock]
    header, *lines = table(second)
    assert header == ["target", "nm", "V", "area", "mm2", "MHz"]
    for one, line in zip(every[len(boards) :], lines, strict=True):
        numbers = f"{one['node_nm']:.0f} {one['supply_v']:.2f} {one['area_mm2']:.1f}"
        assert line == [one["name"], *numbers.split(), f"{one['clock_mhz']:.0f}"]


@pytest.mark.parametrize(("command", "columns"), [("networks", [6]), ("targets", [9, 5])])
def test_columns_are_aligned_and_fit_a_terminal(cli, command: str, columns: list[int]) -> None:
    for text, count in zip(cli(command).out.split("\n\n"), columns, strict=True):
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        rows = [line.ljust(80) for line in lines if "  " in line]
        blank = "".join(" " if {row[i] for row in rows} == {" "} else "x" for i in range(80))
        assert len([part for part in blank.split("  ") if part.strip()]) == count
