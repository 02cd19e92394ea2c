"""`shiftseg ...`: one module per command; nothing heavy is imported before a command runs.

A new command is a line in `COMMANDS` and a module of its name with `EXAMPLE`, `add_arguments(parser)` and
`run(args, console)`, which returns an exit code or None for 0.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import current_thread, main_thread
from types import ModuleType
from typing import NoReturn

from napari_shiftseg import signals
from napari_shiftseg.cli.console import Console, silence, to_stderr, to_stdout
from napari_shiftseg.cli.constants import (
    BAD_INPUT,
    BROKEN_RULE,
    DEEPEST,
    INTERRUPTED,
    MOST_LETTERS,
    NO_MEMORY,
    OUR_MISTAKE,
    TERMINATED,
)
from napari_shiftseg.errors import (
    CancelledError,
    ComplianceError,
    OutOfMemoryError,
    SettingsError,
    ShiftsegError,
    memory_ran_out,
)

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = {
    "demo": "segment the sample that comes with the package, and look at it",
    "segment": "segment images",
    "relabel": "label a result anew by other settings, without its network",
    "link": "join objects through the planes of a stack or the frames of a series",
    "train": "train a network on images with masks",
    "check": "which rules of exact tiling a model, a tile size or an image keeps or breaks",
    "verify": "compare the tiles of an image with one pass of the network",
    "synth": "draw a synthetic image with its truth",
    "seams": "whether the tiles of a result show at its seams",
    "probe": "find the period, the margin and the reach of a network by experiment",
    "measure": "measure the objects of a result, in physical units",
    "export": "write a result as labels, outlines or a table that other programs read",
    "evaluate": "score a model against ground truth, and calibrate its clustering",
    "paper": "run the experiments of the paper, each with its expected outcome",
    "info": "versions, devices, models, images",
}
# The beginning of a negative number.
_SIGNED = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    `argv`: arguments without the program's name; those of the process when not given.

    Returns
    -------
    int
        0 success, 2 bad usage or input, 3 a rule is broken, 4 no memory, 70 a mistake of ours, 130 interrupted, 143 terminated.
    """
    if argv is None:
        _quiet()
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed, as by >&-: it also keeps its number from a file that is opened next
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    try:
        with _terminable():
            try:
                code = _run(name, arguments)
            except SystemExit as stop:  # argparse after --help and --version
                code = int(stop.code or 0)
            to_stdout("")
            if signals.asked and not code:  # in a place that takes no error, as a finaliser
                raise signals.error()
            return code
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        silence(sys.stdout)
        return 0
    except BaseException as exc:  # noqa: BLE001  # a library written in Rust panics with an error that is no Exception
        return report(exc, name)


def _quiet() -> None:
    """What libraries warn of or log is not for those who run a command: what matters of it stands in notes and errors."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())


@contextmanager
def _terminable() -> Iterator[None]:
    """A process that is asked to end cleans up as after Ctrl-C; whoever takes or ignores such a signal already keeps it."""
    signals.asked.clear()
    numbers = signals.NUMBERS if current_thread() is main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] in signals.USUAL]
    try:
        for number in ours:
            signal.signal(number, signals.stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def report(exc: BaseException, name: str, about: str = "") -> int:
    """Say on stderr in one line what went wrong, about which of several inputs, and give the exit code for it."""
    exc = _interrupt(exc) or exc
    text = " ".join(str(exc).split())
    if isinstance(exc, ComplianceError):
        code = BROKEN_RULE
    elif memory_ran_out(exc):
        code = NO_MEMORY
        if not isinstance(exc, OutOfMemoryError):
            text = f"memory ran out{f' ({text})' * bool(text)}; use smaller tiles (--tile) or a smaller image."
    elif isinstance(exc, KeyboardInterrupt | CancelledError):
        terminated = isinstance(exc, signals.TerminatedError)
        code, text = TERMINATED if terminated else INTERRUPTED, text or signals.SAID
        text = text.replace("interrupted", "terminated", 1) if terminated else text
    elif isinstance(exc, ShiftsegError | OSError):
        code = BAD_INPUT
        if isinstance(exc, OSError) and exc.strerror:  # without the system's number
            text = f"{exc.filename or 'a file'}: {exc.strerror}; look whether the place is there, and may be read and written."
    else:
        code, text = OUR_MISTAKE, _mistake(exc, text)
    text = f"{about}: {text}" if about and about not in text else text
    to_stderr(f"shiftseg{' ' * bool(name)}{name}: {text}")
    return code


def _interrupt(exc: BaseException) -> KeyboardInterrupt | None:
    """The interrupt behind an error: who is interrupted while a library works may meet an error of that."""
    seen: BaseException | None = exc
    for _ in range(DEEPEST):
        if isinstance(seen, KeyboardInterrupt):
            return seen
        if seen is None:
            break
        seen = seen.__cause__ or seen.__context__
    foreseen = isinstance(exc, ShiftsegError | OSError | MemoryError)
    return None if foreseen or not signals.asked else signals.error()


def _mistake(exc: BaseException, text: str) -> str:
    """A sentence on what nobody foresaw, and a file that tells where it happened."""
    kind = type(exc).__name__
    what = f"{kind}: {text[:MOST_LETTERS]}" if text else kind
    said = f"an error that is a mistake of this program ({what})"
    try:
        number, path = tempfile.mkstemp(prefix="shiftseg-error-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"shiftseg {' '.join(map(ascii, sys.argv[1:]))}\n\n")
            traceback.print_exception(exc, file=file)
    except OSError:
        return f"{said}; run it again with room in {tempfile.gettempdir()} for a report, and send us that."
    return f"{said}; please send us {path}, which tells where it happened."


def build_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    module = _module(name)
    parser = _Parser(
        prog=f"shiftseg {name}",
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    group.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _run(name: str, arguments: list[str]) -> int:
    if not name:
        _build_overview().parse_args(arguments or ["--help"])
        raise SettingsError("no command was given; see shiftseg --help.")
    if any(not word or re.fullmatch(r"--[\w-]+=", word) for word in arguments):  # a path "" is the folder that one works in
        raise SettingsError("an empty word was given; give it a value, or look whether a variable of the shell is empty.")
    args = build_parser(name).parse_args(_with_signs(arguments[1:]))
    return int(_module(name).run(args, Console(json=args.json, quiet=args.quiet)) or 0)


def _with_signs(words: Sequence[str]) -> list[str]:
    """Words where "--limits -5,150" is "--limits=-5,150": argparse takes what begins with a sign for an option."""
    joined: list[str] = []
    for word in words:
        option = bool(joined) and joined[-1].startswith("--") and len(joined[-1]) > 2 and "=" not in joined[-1]
        if option and _SIGNED.match(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _build_overview() -> argparse.ArgumentParser:
    from napari_shiftseg import __version__

    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog="shiftseg",
        description="Instance segmentation whose result does not depend on the tiling.",
        epilog=f"commands:\n{listing}\n\nexample:\n  shiftseg demo\n\nshiftseg COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shiftseg {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=tuple(COMMANDS), help="one of the commands below")
    return parser


def _module(name: str) -> ModuleType:
    return import_module(f"napari_shiftseg.cli.{name}")
