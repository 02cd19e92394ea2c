"""`Rows`: what the features of a labels layer say, a row per object; and how measurements come into them and follow edits."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_shiftseg.plugin.sheet import Sheet

Columns = dict[str, np.ndarray]

BESIDE = " (measured)"
"""End of the name of a measured column where the user has one of that name."""

_MEASURED = re.compile(
    r"label|num_pixels|area|unit|spacing-[zyx]|(centroid|bbox)-\d|equivalent_diameter_area|axis_(major|minor)_length|extent"
    r"|euler_number|eccentricity|solidity|orientation|perimeter|(mean|min|max|std)_intensity(-.+)?"
)
_OF_A_RUN = re.compile(r"area|(centroid|first|last)_[zyx]|on_border|on_seam")
_LENGTH = re.compile(r"centroid-\d|equivalent_diameter|axis_(major|minor)_length|perimeter")
_SHORT = {"micrometer": "\u00b5m", "nanometer": "nm", "millimeter": "mm", "pixel": "px"}
_ALWAYS = {"label", "num_pixels", "area", "unit", "spacing-x"}  # what a table of `measure` is known by
_KEYS = ("t", "z", "label", "index")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Objects, and what is known of each.

    Attributes
    ----------
    frames : ndarray
        (n, looped) int64, the frame of each object; of labels without frames (n, 0).
    labels : ndarray
        (n,) int64, its number.
    columns : dict of ndarray
        (n,) values by name, in the order of the table.
    """

    frames: np.ndarray
    labels: np.ndarray
    columns: Columns

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def numeric(self) -> list[str]:
        """Columns of numbers but for those that say which object it is."""
        return [name for name, values in self.columns.items() if values.dtype.kind in "biuf" and name not in _KEYS]

    def values(self, name: str) -> np.ndarray:
        """A column of numbers as float64."""
        return self.columns[name].astype(np.float64)

    def title(self, name: str) -> str:
        """A column with its unit."""
        units = [unit for unit in self.columns.get("unit", ()) if isinstance(unit, str)][:1]
        spatial = sum(f"spacing-{axis}" in self.columns for axis in "zyx")
        power = spatial if name.removesuffix(BESIDE) == "area" else int(bool(_LENGTH.match(name)))
        if not power or not units or units == ["unknown"]:
            return name
        return f"{name} ({_SHORT.get(units[0], units[0])}{['', chr(0xB2), chr(0xB3)][power - 1]})"

    def in_frame(self, frame: tuple[int, ...]) -> np.ndarray:
        """Rows of a frame."""
        return np.flatnonzero((self.frames == np.asarray(frame, np.int64)).all(axis=1))

    def row_of(self, frame: tuple[int, ...], number: int) -> int:
        """The row of an object, -1 for none."""
        at = self.in_frame(frame) if self.frames.shape[1] == len(frame) else np.zeros(0, np.intp)
        found = at[self.labels[at] == number]
        return int(found[0]) if len(found) else -1

    def place(self, row: int, axes: str) -> tuple[float, ...] | None:
        """The middle of an object in pixels along some axes of "zyx"; None where no column says it."""
        names = [f"centroid-{at}" for at in range(len(axes))]
        if {*names, *(f"spacing-{axis}" for axis in axes)} <= set(self.columns):
            pairs = zip(names, axes, strict=True)
            place = tuple(float(self.columns[name][row]) / float(self.columns[f"spacing-{axis}"][row]) for name, axis in pairs)
        elif {f"centroid_{axis}" for axis in axes} <= set(self.columns):
            place = tuple(float(self.columns[f"centroid_{axis}"][row]) for axis in axes)
        else:
            return None
        return place if np.isfinite(place).all() else None


NO_ROWS = Rows(frames=np.zeros((0, 0), np.int64), labels=np.zeros(0, np.int64), columns={})


def rows_of(features: Any, sheet: Sheet) -> Rows:
    """The rows of features; none where these do not say which object of which frame a row is of."""
    columns = {str(name): features[name].to_numpy() for name in features.columns}
    if not columns:
        return NO_ROWS
    if sheet.looped:
        return rows_of_table(columns, sheet)
    numbers = columns["index"] if "index" in columns else np.arange(len(features))
    if numbers.dtype.kind not in "iu":
        return NO_ROWS
    objects = numbers > 0  # napari's first row may be of the background
    columns = {name: values[objects] for name, values in columns.items()}
    return Rows(frames=np.zeros((int(objects.sum()), 0), np.int64), labels=numbers[objects].astype(np.int64), columns=columns)


def rows_of_table(table: Mapping[str, np.ndarray], sheet: Sheet) -> Rows:
    """The rows of a table of `measure`; none if it is of labels with other frames."""
    letters = sheet.axes[: sheet.looped]
    if not {*letters, "label"} <= set(table):
        return NO_ROWS
    frames = [np.asarray(table[letter], np.int64) for letter in letters]
    labels = np.asarray(table["label"], np.int64)
    return Rows(
        frames=np.stack(frames, axis=1) if frames else np.zeros((len(labels), 0), np.int64), labels=labels, columns=dict(table)
    )


# -- into features ----------------------------------------------------------------------------------------------------


def measured_columns(columns: Iterable[Any]) -> set[str]:
    """Which columns of features `measure` gave; none where they are not its table."""
    names = {str(name) for name in columns}
    if not {name.removesuffix(BESIDE) for name in names} >= _ALWAYS:
        return set()
    return {
        name
        for name in names
        if name.endswith(BESIDE) or ((_MEASURED.fullmatch(name) or name in "tz") and name + BESIDE not in names)
    }


def measured_names(features: Any, measured: Iterable[str]) -> dict[str, str]:
    """Names in features of columns that `measure` gives; another one where the user has a column of that name."""
    taken = set(_theirs(features))
    return {name: name + BESIDE if name in taken else name for name in measured}


def joined(features: Any, table: Mapping[str, np.ndarray], *, looped: bool) -> Columns | None:
    """Features with a new table of measurements; the user's columns stay, and what was measured before goes.

    None where the features are a table of the user whose rows are no objects of frames, which has to stay as it is.
    """
    theirs = _theirs(features)
    if looped:
        return None if theirs else dict(table)
    old = features["index"].to_numpy() if "index" in features else np.arange(len(features))
    if old.dtype.kind not in "iu" or len(np.unique(old)) < len(old):
        return None
    names, new = measured_names(features, table), table["label"]
    kept = [str(name) for name in features.columns if name in theirs or _is_of_a_run(name, features)]
    index = np.union1d(old, new) if theirs else new
    made: Columns = {"index": index}
    made |= {names[name]: _spread(values, new, index) for name, values in table.items()}
    return made | {name: _spread(features[name].to_numpy(), old, index) for name in kept if name not in made}


def replaced(features: Any, rows: Rows, touched: tuple[np.ndarray, np.ndarray]) -> Columns:
    """Measured features with new measurements of some objects; of those that are gone there is no row any more.

    Parameters
    ----------
    rows : Rows
        What was measured anew.
    touched : (ndarray, ndarray)
        (n, looped) frames and (n,) numbers of the objects that were looked at.
    """
    old = {str(name): features[name].to_numpy() for name in features.columns}
    names = measured_names(features, rows.columns)
    letters = [name for name in "tz" if name in old][: rows.frames.shape[1]]
    key = "label" if letters else "index"
    numbers = old[key].astype(np.int64)
    frames = np.stack([old[letter] for letter in letters], axis=1) if letters else np.zeros((len(numbers), 0), np.int64)
    before, fresh, gone = _as_one((frames, numbers), (rows.frames, rows.labels), touched)
    left = ~np.isin(before, gone)
    at = _found_at(before, fresh)
    measured = {names[name]: values for name, values in rows.columns.items()} | ({} if letters else {"index": rows.labels})
    # of an object that is still there is known what is of the user, or of a run; and nothing of an image that is gone
    gone_at, lost = np.full(len(fresh), -1), measured_columns(old) - set(measured)
    made = {}
    for name, values in old.items():
        new = measured[name] if name in measured else _taken(values, gone_at if name in lost else at)
        made[name] = _together(values[left], new)
    order = np.lexsort([made[key], *(made[letter] for letter in reversed(letters))])
    return {name: values[order] for name, values in made.items()}


def without_measured(features: Any) -> Columns:
    """Features without what `measure` gave; the user's columns stay."""
    kept = ["index", *_theirs(features)] if _theirs(features) else []
    return {name: features[name].to_numpy() for name in kept if name in features}


def _theirs(features: Any) -> list[str]:
    """Columns of the user, and of whoever else."""
    ours = {"index", *measured_columns(features.columns)}
    return [name for name in map(str, features.columns) if name not in ours and not _is_of_a_run(name, features)]


def _is_of_a_run(name: Any, features: Any) -> bool:
    """Whether a column is one of `object_table`, which only come all together."""
    whole = {"index", "area", "centroid_y", "centroid_x", "first_y", "last_x", "on_border"} <= set(features.columns)
    return whole and bool(_OF_A_RUN.fullmatch(str(name)))


def _as_one(*objects: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """One number for each object of each frame, the same in all lists."""
    if not objects[0][0].shape[1]:
        return [np.asarray(numbers, np.int64) for _, numbers in objects]
    pairs = [np.column_stack([np.asarray(frames, np.int64), np.asarray(numbers, np.int64)]) for frames, numbers in objects]
    _, inverse = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    return np.split(inverse.ravel(), np.cumsum([len(pair) for pair in pairs])[:-1])


def _found_at(numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where some numbers stand among others, -1 for those that do not."""
    if not len(numbers):
        return np.full(len(wanted), -1)
    order = np.argsort(numbers, kind="stable")
    at = order[np.minimum(np.searchsorted(numbers[order], wanted), len(numbers) - 1)]
    return np.where(numbers[at] == wanted, at, -1)


def _spread(values: np.ndarray, old: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values of some numbers as those of others; nothing where they are not known."""
    if np.array_equal(old, index):
        return values
    return _taken(values, _found_at(old, index))


def _taken(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values at some rows; nothing for -1."""
    if not (at < 0).any():
        return values[at]
    made = np.full(len(at), np.nan) if values.dtype.kind in "iuf" else np.full(len(at), None, object)
    made[at >= 0] = values[at[at >= 0]]
    return made


def _together(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Values of one column behind each other; whole numbers stay whole where all are known."""
    if old.dtype.kind == "f" and new.dtype.kind in "iu" and np.isfinite(old).all():
        old = old.astype(new.dtype)
    if old.dtype.kind in "OUS" or new.dtype.kind in "OUS":
        return np.concatenate([old.astype(object), new.astype(object)])
    return np.concatenate([old, new])
