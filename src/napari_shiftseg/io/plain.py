"""Descriptions, settings and records as JSON values and back, by the types that their fields declare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from napari_shiftseg.errors import SettingsError, ShiftsegError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["from_json", "from_plain", "to_json", "to_plain"]

T = TypeVar("T")
Beyond = Literal["kept", "named", "none"]
"""What becomes of NaN and infinity, which JSON does not know: numbers all the same, their Python names, or null."""

_NAMES = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_AS_NUMBERS: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))
_AS_NULL: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="null"))


def to_plain(value: object, *, beyond: Beyond = "kept", what: str = "it", error: type[ShiftsegError] = SettingsError) -> Any:
    """A value as JSON has it: dataclasses as objects, tuples and arrays as lists, numpy numbers as numbers, paths as text.

    Parameters
    ----------
    value
        Dataclasses, mappings, sequences, numpy values and paths, in any depth.
    beyond : {"kept", "named", "none"}
        What becomes of NaN and infinity.
    what : str
        What is written, for the message.
    error : type
        Raised where something has no form in JSON.

    >>> to_plain({"ap": float("nan"), "shape": (2, 3)}, beyond="none")
    {'ap': None, 'shape': [2, 3]}
    """
    writer = _AS_NULL if beyond == "none" else _AS_NUMBERS
    try:
        plain = writer.dump_python(value, mode="json", fallback=_of_other_kinds)
    except (TypeError, ValueError, RecursionError) as exc:
        raise error(f"{what} cannot be written as JSON ({exc}); give numbers, text, and lists and mappings of them.") from exc
    return json.loads(json.dumps(plain), parse_constant=_NAMES.get) if beyond == "named" else plain


def _of_other_kinds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy arrays and numbers
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} has no form there")


def from_plain(
    kind: type[T], values: object, *, what: str = "the description", error: type[ShiftsegError] = SettingsError
) -> T:
    """The value that `to_plain` wrote down.

    Parameters
    ----------
    kind : type
        A dataclass, or a type made of them such as ``tuple[Limits, ...]``.
    values : JSON values
    what : str
        What is read, for the message.
    error : type
        Raised where the values do not fit, in one sentence with the first that does not.

    >>> from napari_shiftseg.geometry import UNetSpec
    >>> spec = UNetSpec(levels=2, pool=((1, 2), (2, 2)))
    >>> from_plain(UNetSpec, to_plain(spec)) == spec
    True
    >>> from_plain(UNetSpec, {"padding": "same"}, what="the network")
    Traceback (most recent call last):
    napari_shiftseg.errors.SettingsError: the network does not fit this version: padding is 'same'; give 'valid' or 'zero'.
    """
    plain = to_plain(values, what=what, error=error)
    try:  # in a tuple, since a dataclass that is plain takes its rules from what holds it
        return cast("T", _adapter(cast("Any", kind)).validate_python((plain,))[0])
    except ValidationError as exc:
        raise error(f"{what} does not fit this version: {_fault(exc, plain)}") from exc


def from_json(
    kind: type[T], text: str | bytes, *, what: str = "the description", error: type[ShiftsegError] = SettingsError
) -> T:
    """As `from_plain`, from the text of a file."""
    try:
        values = json.loads(text)
    except ValueError as exc:
        raise error(f"{what} is not JSON ({exc}); give what was saved, unchanged.") from exc
    return from_plain(kind, values, what=what, error=error)


def to_json(value: object, *, what: str = "it", error: type[ShiftsegError] = SettingsError) -> str:
    """As `to_plain`, as the text of a file."""
    return json.dumps(to_plain(value, what=what, error=error))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid"))


def _fault(exc: ValidationError, values: object) -> str:
    """What was given and what is wanted, of the first value that does not fit."""
    errors = [(_place(error, values), error) for error in exc.errors(include_url=False)]
    # of a field that may be one of several types, the type that fits farthest counts
    place, first = max((each for each in errors if each[0][:1] == errors[0][0][:1]), key=lambda each: len(each[0]))
    if isinstance(own := first.get("ctx", {}).get("error"), ShiftsegError):
        return str(own)
    where = ".".join(place) or "it"
    if first["type"] == "missing":
        return f"{where} is missing; give it."
    if first["type"] == "unexpected_keyword_argument":
        return f"{where} is not known; leave it out, or update napari-shiftseg."
    wishes = dict.fromkeys(_wish(error["msg"]) for at, error in errors if at == place)
    return f"{where} is {first['input']!r:.60}; give {' or '.join(wishes)}."


def _place(error: ErrorDetails, values: object) -> list[str]:
    """Names and numbers on the way to a value; pydantic's words for the types on this way are left out."""
    names: list[str] = []
    here: Any = (values,)
    for part in error["loc"]:
        if isinstance(part, int) if isinstance(here, list | tuple) else isinstance(here, dict) and part in here:
            names.append(str(part))
            here = here[part]
    if error["type"] == "missing":
        names.append(str(error["loc"][-1]))
    return names[1:]


def _wish(message: str) -> str:
    words = message.removeprefix("Input should be ").partition(", unable")[0].partition(", got")[0]
    return "as many as there are places" if words.startswith("Tuple should have") else words
