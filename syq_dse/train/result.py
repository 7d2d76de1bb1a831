"""What a training leaves in result.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syq_dse import records
from syq_dse.errors import InputError

RESULT = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the integers go with the trained model, as quant.streamline.Agreement."""

    images: int
    same_class: int
    codes: int
    apart: dict[str, int]
    images_apart: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """result.json: what was trained, and what was measured."""

    job: dict[str, Any]
    top1: float
    top5: float
    loss: float
    part: str
    measured_images: int
    epochs: int
    images: int  # that were trained on, each as often as it was
    seconds: float
    images_per_second: float
    recipe: str
    seed: int
    versions: dict[str, str]
    integers: Agreement | None = None  # of a quantised network

    def __post_init__(self) -> None:
        for name in ("top1", "top5"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        for name in ("measured_images", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("images", "seconds", "images_per_second", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("syq_dse", "torch"):
            if name not in self.versions:
                raise InputError(f"versions: the key '{name}' is missing")


def read(path: Path) -> dict[str, Any]:
    """A result.json, checked.

    Raises:
        InputError: it is missing or broken.
    """
    found = records.read(path)
    records.structure(found, Result, str(path))
    return found
