"""Names become files: shipped ones, or a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from syq_dse import catalogue
from syq_dse.errors import InputError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data package of two subfolders in place of the shipped ones."""
    for name in ("fpga/beta.toml", "fpga/alpha.toml", "asic/gamma.toml", "fpga/notes.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setattr(catalogue, "folder", lambda package: tmp_path)
    return tmp_path


@pytest.mark.parametrize("package", ["models", "hwmodels", "studies"])
def test_each_data_package_is_found(package: str) -> None:
    assert (catalogue.folder(package) / "__init__.py").is_file()


def test_names_are_sorted_and_only_toml(shelf: Path) -> None:
    assert catalogue.names("hwmodels", "fpga") == ["alpha", "beta"]


def test_a_subfolder_that_is_not_there_offers_nothing(shelf: Path) -> None:
    assert catalogue.names("hwmodels", "gpu") == []


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_every_name_is_found_in_its_subfolder(shelf: Path, name: str) -> None:
    path = catalogue.find("target", name, "hwmodels", ("fpga", "asic"))
    assert path.is_file()
    assert path.stem == name


@pytest.mark.parametrize("spelling", ["mine.toml", "./mine.toml", "sub/board"])
def test_a_path_is_taken_as_it_is(
    shelf: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    Path(spelling).parent.mkdir(exist_ok=True)
    Path(spelling).touch()
    assert catalogue.find("target", spelling, "hwmodels") == Path(spelling)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "alpa",
            "unknown target 'alpa'; known: alpha, beta, gamma (did you mean 'alpha'?);"
            " a path to a .toml file works too",
        ),
        (
            "",
            "unknown target ''; known: alpha, beta, gamma; a path to a .toml file works too",
        ),
        (
            "notes",
            "unknown target 'notes'; known: alpha, beta, gamma; a path to a .toml file works too",
        ),
        ("alpha.toml", "target 'alpha.toml': no such file"),
        ("asic/", "target 'asic/': no such file"),
        ("../alpha", "target '../alpha': no such file"),
    ],
)
def test_message_for_a_name_without_a_file(
    shelf: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    with pytest.raises(InputError) as caught:
        catalogue.find("target", name, "hwmodels", ("fpga", "asic"))
    assert str(caught.value) == message
