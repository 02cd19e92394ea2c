"""What a command says, and to whom: reports and JSON on stdout, progress and warnings on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from napari_shiftseg.cli.constants import LABEL_WIDTH
from napari_shiftseg.errors import ResultError
from napari_shiftseg.events import BlockDone, Event, Stage, TrainStep

if TYPE_CHECKING:
    from tqdm import tqdm


def printable(text: str, stream: TextIO) -> str:
    """Text as a terminal may get it: what files say cannot move its cursor, and letters that it lacks are escaped.

    >>> import io
    >>> print(printable("red" + chr(27) + "[31m", io.TextIOWrapper(io.BytesIO(), "cp437")).replace(chr(92), "/"))
    red/x1b[31m
    """
    safe = "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(letter: str) -> str:
    return " " if letter.isspace() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def to_stdout(text: str) -> None:
    """Text on stdout; ResultError where it cannot be written, BrokenPipeError where nobody reads on."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        silence(sys.stdout)
        raise ResultError(
            f"what the command says cannot be written ({exc.strerror}); send it elsewhere, or make room."
        ) from exc


def to_stderr(text: str) -> None:
    """A line on stderr; who cannot hear it, as on a full disk, still gets the rest."""
    try:
        sys.stderr.write(printable(text, sys.stderr) + "\n")
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Send what a stream still holds nowhere, since Python would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@dataclass(frozen=True, kw_only=True)
class Console:
    """Where a command speaks."""

    json: bool = False  # only `document` reaches stdout
    quiet: bool = False  # no progress

    def say(self, text: str = "") -> None:
        """A line for people."""
        if not self.json:
            to_stdout(printable(text, sys.stdout) + "\n")

    def field(self, name: str, text: object) -> None:
        """A line of a report: a name and what is said of it."""
        self.say(f"{name:{LABEL_WIDTH}}{text}".rstrip())

    def warn(self, text: str) -> None:
        """A line on stderr."""
        to_stderr(" ".join(text.split()))

    def document(self, values: Mapping[str, object]) -> None:
        """The JSON document of the command, if one was asked for."""
        if self.json:
            from napari_shiftseg.io import to_plain

            to_stdout(json.dumps(to_plain(values, beyond="none"), allow_nan=False, indent=1) + "\n")

    @property
    def animated(self) -> bool:
        """Whether progress is drawn."""
        return not self.quiet and sys.stderr.isatty()

    @contextmanager
    def progress(self) -> Iterator[Callable[[Event], None]]:
        """A function that draws events as a progress bar."""
        if not self.animated:
            yield lambda event: None
            return
        bar = _Bar()
        try:
            yield bar.show
        finally:
            bar.close()


class _Bar:
    """One bar per stage."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._by_blocks = False

    def show(self, event: Event) -> None:
        from tqdm import tqdm

        if isinstance(event, Stage):
            self.close()
            self._bar = tqdm(total=event.total or None, initial=event.done, desc=event.text, leave=False, file=sys.stderr)
            self._by_blocks = False
            return
        # until the first block is done its tiles are counted, then blocks are
        if self._by_blocks and not isinstance(event, BlockDone):
            return
        self._by_blocks = isinstance(event, BlockDone)
        if self._bar is None:
            self._bar = tqdm(total=event.total, leave=False, file=sys.stderr)
        if self._bar.total != event.total:
            self._bar.total = event.total
        if self._bar.n == 0 and event.done > 1:  # a resumed training: the rate counts from here
            self._bar.initial = event.done - 1
        if isinstance(event, TrainStep):
            self._bar.set_postfix(loss=f"{event.loss:.3f}", pull=f"{event.pull:.3f}", push=f"{event.push:.3f}")
        self._bar.update(event.done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
