"""Tables out: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_shiftseg.errors import ResultError
from napari_shiftseg.files import replacing

TABLE_SUFFIXES = (".csv", ".parquet")


def check_table_format(path: str | Path) -> None:
    """Refuse a name that is no table's, and Parquet where nothing writes it.

    ResultError.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ResultError(f"{path} does not say which table it is; give a name that ends in .csv or .parquet.")
    if suffix == ".parquet":
        _parquet()


def save_table(path: str | Path, table: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Write a table as CSV or Parquet, as its name says; a file of that name is replaced once the new one is complete.

    Parameters
    ----------
    path : str or Path
        File to write, ``.csv`` or ``.parquet``.
    table : mapping of str to ndarray
        Columns of one length. In CSV what is no number is an empty field, and true is 1.

    Raises
    ------
    ResultError
        If the name ends otherwise, pyarrow is not installed, or the file cannot be written.
    """
    path = Path(path)
    check_table_format(path)
    try:
        with replacing(path) as partial:
            if path.suffix.lower() == ".csv":
                _write_csv(partial, table)
            else:
                arrow, parquet = _parquet()
                parquet.write_table(arrow.table({name: arrow.array(column) for name, column in table.items()}), partial)
    except OSError as exc:
        raise ResultError(f"{path} cannot be written ({exc.strerror}); choose another folder or make room.") from exc
    return path


def _write_csv(path: Path, table: Mapping[str, npt.NDArray[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        columns = [column.astype(int) if column.dtype == bool else column for column in table.values()]
        writer.writerows(zip(*map(_fields, columns), strict=True))


def _fields(column: npt.NDArray[Any]) -> list[Any]:
    values = column.tolist()
    return ["" if value != value else value for value in values] if np.issubdtype(column.dtype, np.floating) else values


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise ResultError(
            'Parquet needs pyarrow, which is not installed: pip install "napari-shiftseg[export]"; or give a name with .csv.'
        ) from exc
    return pyarrow, pyarrow.parquet
