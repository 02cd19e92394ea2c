"""`shiftseg ...`: one module per command; nothing heavy is imported before a command runs.

A new command is a line in `COMMANDS` and a module of its name with `EXAMPLE`, `add_arguments(parser)` and
`run(args, console)`, which returns an exit code or None for 0.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from napari_shiftseg.cli.console import Console
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
    "train": "train a network on images with masks",
    "check": "which rules of exact tiling a model, a tile size or an image keeps or breaks",
    "verify": "compare the tiles of an image with one pass of the network",
    "synth": "draw a synthetic image with its truth",
    "seams": "whether the tiles of a result show at its seams",
    "probe": "find the period, the margin and the reach of a network by experiment",
    "evaluate": "score a model against ground truth, and calibrate its clustering",
    "paper": "run the experiments of the paper, each with its expected outcome",
    "info": "versions, devices, models, images",
}
BAD_INPUT, BROKEN_RULE, NO_MEMORY, INTERRUPTED = 2, 3, 4, 130
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
        0 success, 2 bad usage or input, 3 a rule is broken, 4 no memory, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    try:
        try:
            code = _run(name, arguments)
        except SystemExit as stop:  # argparse after --help and --version
            code = int(stop.code or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ShiftsegError, OSError, MemoryError, KeyboardInterrupt) as exc:
        return report(exc, name)
    except RuntimeError as exc:
        if not memory_ran_out(exc):
            raise
        return report(exc, name)


def report(exc: BaseException, name: str, about: str = "") -> int:
    """Say on stderr in one line what went wrong, about which of several inputs, and give the exit code for it."""
    text = " ".join(str(exc).split())
    code = BAD_INPUT
    if isinstance(exc, ComplianceError):
        code = BROKEN_RULE
    elif memory_ran_out(exc):
        code = NO_MEMORY
        if not isinstance(exc, OutOfMemoryError):
            text = f"memory ran out{f' ({text})' * bool(text)}; use smaller tiles (--tile) or a smaller image."
    elif isinstance(exc, KeyboardInterrupt | CancelledError):
        code, text = INTERRUPTED, text or "interrupted; nothing was half written."
    text = f"{about}: {text}" if about and about not in text else text
    sys.stderr.write(f"shiftseg{' ' * bool(name)}{name}: {text}\n")
    return code


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
