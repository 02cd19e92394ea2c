"""What the entries of a result's record are: checked when it is opened, so that who reads one later finds what it expects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # of which pydantic, too, makes a rule before Python 3.12

from napari_shiftseg.errors import ResultError


class _Image(TypedDict, total=False):
    name: str
    source: str
    axes: str
    note: str
    sizes: dict[str, int]
    pixels: str | None


class _Model(TypedDict, total=False):
    name: str
    sha256: str
    spec: dict[str, Any] | None
    record: dict[str, Any] | None


class _Plan(TypedDict, total=False):
    image_shape: list[int]
    result_shape: list[int]
    write: list[int]
    period: list[int | None]
    seams: list[list[int]]


class _Text(TypedDict, total=False):
    text: str


class _Named(TypedDict, total=False):
    name: str


class _Method(TypedDict, total=False):
    name: str
    strip: int


class _Broken(TypedDict, total=False):
    message: str


class _Intensity(TypedDict, total=False):
    notes: list[str]
    warnings: list[str]


class _Promises(TypedDict, total=False):
    tile_exact: bool


class _Link(TypedDict, total=False):
    through: str


class _Relabelled(TypedDict, total=False):
    changed: dict[str, Annotated[list[Any], Field(min_length=2, max_length=2)]]


class _Record(TypedDict, total=False):
    """Those that are read by name; a record may lack any, and hold others."""

    run: str | int
    status: str
    time: str
    image: _Image
    model: _Model
    plan: _Plan
    violations: list[_Broken]
    promises: _Promises
    settings: dict[str, Any]
    clustering: dict[str, Any]
    limits: dict[str, Any]
    intensity: _Intensity
    device: _Named
    versions: dict[str, str]
    job: dict[str, Any]
    method: _Method | list[_Method]
    instances: list[int]
    likeness: _Text | None
    seconds: dict[str, float]
    linked: list[_Link]
    edits: list[dict[str, Any]]
    relabelled: _Relabelled | None


def check_record(record: object, where: str) -> dict[str, Any]:
    """The record, unchanged.

    ResultError if one of its entries is of another kind than what a run writes. `where`: how the error calls the result.
    """
    if not isinstance(record, Mapping):
        raise ResultError(f"the record of {where} is damaged (it is {type(record).__name__}); run the segmentation again.")
    try:
        _rule().validate_python(dict(record), strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if not str(part).startswith("_"))[:80]
        raise ResultError(
            f"the record of {where} is damaged ({place}: {first['msg'][:100]}); run the segmentation again."
        ) from exc
    return dict(record)


@cache
def _rule() -> TypeAdapter[Any]:
    return TypeAdapter(_Record)
