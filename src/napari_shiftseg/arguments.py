"""Arguments of another type than a function takes, told in a sentence once a call has failed for whatever reason.

They are compared with the annotations after the failure alone: a call that works costs nothing and is never refused, and a
failure that no argument explains stays what it is, which is a mistake of ours.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from napari_shiftseg.errors import SettingsError, ShiftsegError, memory_ran_out

Called = TypeVar("Called", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

# Letters of a value that an error shows: enough of a name or of a few numbers.
_SHOWN = 60
_WISHES = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}


class _Misfit(NamedTuple):
    name: str
    value: object
    wish: str


def told(function: Called) -> Called:
    """A function whose failures are told as what they are where an argument is of another type than its annotation says.

    Raises
    ------
    SettingsError
        In the place of an error that is not one of this package, with the first argument that does not fit.

    >>> @told
    ... def half(edge: int) -> int:
    ...     return edge // 2
    >>> half("wide")
    Traceback (most recent call last):
    napari_shiftseg.errors.SettingsError: edge is 'wide'; give a whole number.
    """

    @wraps(function)
    def call(*args: Any, **values: Any) -> Any:
        try:
            return function(*args, **values)
        except (ShiftsegError, OSError, StopIteration):
            raise
        except Exception as exc:
            wrong = None if memory_ran_out(exc) else _misfit(function, args, values)
            if wrong is None:
                raise
            raise SettingsError(f"{wrong.name} is {shown(wrong.value)}; give {wrong.wish}.") from exc

    return call  # type: ignore[return-value]


def told_fields(made: Class) -> Class:
    """As `told`, for a dataclass, whose fields are the arguments."""
    made.__init__ = told(made.__init__)  # type: ignore[misc]
    return made


def shown(value: object) -> str:
    """A value on one line of no more letters than a sentence can bear."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  # of a stranger's object
        text = ""
    kind = type(value).__name__
    if not text or not text.isprintable():
        return f"a {kind}"
    return text if len(text) <= _SHOWN else f"a {kind} ({text[:_SHOWN]}...)"


def _misfit(function: Callable[..., Any], args: tuple[Any, ...], values: Mapping[str, Any]) -> _Misfit | None:
    """The first argument that does not fit its annotation, or field of an argument that holds settings of ours."""
    try:
        given = inspect.signature(function).bind(*args, **values).arguments
    except TypeError:  # one is missing or unknown, as Python says
        return None
    kinds = _kinds(function)
    return next(_misfits(given.items(), kinds), None)


def _misfits(given: Any, kinds: Mapping[str, Any]) -> Iterator[_Misfit]:
    for name, value in given:
        kind = kinds.get(name, Any)
        if not _fits(value, kind):
            yield _Misfit(name, value, _wish(kind) + " of fewer than 19 digits" * _is_beyond(value))
        elif is_dataclass(value) and not isinstance(value, type) and type(value).__module__.startswith("napari_shiftseg."):
            inner = [(field.name, getattr(value, field.name)) for field in fields(value) if field.init]
            yield from _misfits(inner, _kinds(type(value)))


def _kinds(owner: Any) -> dict[str, Any]:
    """Annotations by name; those that cannot be known here, since they are for type checkers alone, are left out."""
    spaces = vars(inspect.getmodule(owner)) if inspect.getmodule(owner) else {}
    spaces = {**spaces, **getattr(inspect.unwrap(owner), "__globals__", {})}
    found = {}
    for name, kind in inspect.get_annotations(owner if isinstance(owner, type) else inspect.unwrap(owner)).items():
        try:
            found[name] = get_type_hints(type("_", (), {"__annotations__": {name: kind}}), globalns=spaces)[name]
        except (NameError, TypeError, SyntaxError, AttributeError):
            continue
    return found


def _fits(value: object, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, (str, int, type(None))) and value in inner
    if kind is None or kind is type(None):
        return value is None
    if kind in (int, float):
        right = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return right and not _is_beyond(value)
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    kind, single = origin or kind, kind
    if kind in (Any, object) or not isinstance(kind, type):
        return True  # or what is not known at run time
    if getattr(kind, "_is_protocol", False) or kind.__name__ == "ndarray":
        names = {"shape", "dtype"} if kind.__name__ == "ndarray" else _names(kind)
        return ("shape" in names and isinstance(value, list | tuple)) or all(hasattr(value, name) for name in names)
    if origin is None and kind not in (tuple, list, dict):
        return isinstance(value, kind)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if kind in (tuple, list) or issubclass(kind, Sequence):
        return _fits_inside(value, kind, get_args(single))
    return isinstance(value, kind)


def _names(protocol: type) -> set[str]:
    return {name for name in {**vars(protocol), **inspect.get_annotations(protocol)} if not name.startswith("_")}


def _is_beyond(value: object) -> bool:
    """Whether it is a whole number that no register of a processor holds."""
    return isinstance(value, int) and not -(1 << 63) <= value < 1 << 64


def _fits_inside(value: object, kind: type, inner: tuple[Any, ...]) -> bool:
    """Of several values of one kind, or, of a tuple, of as many kinds as it has places."""
    ordered = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1  # a list where a tuple is wanted has worked so far
    if not ordered or isinstance(value, str | bytes):
        return False
    several: list[object] = list(value)  # type: ignore[call-overload]
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return len(several) == len(inner) and all(map(_fits, several, inner))
    return not inner or all(_fits(one, inner[0]) for one in several)


def _wish(kind: Any) -> str:
    """An annotation in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_wish(one) for one in inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if kind in _WISHES:
        return _WISHES[kind]
    named = origin or kind
    name = getattr(named, "__name__", str(named))
    if name == "ndarray" or (getattr(named, "_is_protocol", False) and "shape" in _names(named)):
        return "an array of numbers"
    if name in ("tuple", "list", "Sequence", "Iterable") and inner:
        return f"a {name.lower()} of which each is {_wish(inner[0])}"
    if name == "Callable":
        return "a function"
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
