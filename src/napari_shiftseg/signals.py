"""Signals that ask a command to end, from its first line to its last: `shiftseg` begins here, before it loads anything.

While a command works they raise, so that it cleans up. Before that and after it nothing is begun or left to clean up, and an
error would be lost in what loads modules and joins threads: there they end the process with a sentence.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False  # `typing` takes longer to load than all of this
if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from typing import NoReturn

__all__ = ["NUMBERS", "SAID", "USUAL", "TerminatedError", "asked", "begin", "error", "leave", "stop"]

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAID = "interrupted; nothing was half written."
# Seconds until what was lost is raised anew: by then the finaliser is left.
AGAIN = 0.05

# Those that came: what a library makes of one is no mistake of ours, and what it loses of one is asked for all the same.
asked: list[int] = []


class TerminatedError(KeyboardInterrupt):
    """The system, or who closed the terminal, asks the process to end."""


def stop(number: int, frame: object) -> NoReturn:
    """End what the command does, by an error."""
    asked.append(number)
    raise error()


def error() -> KeyboardInterrupt:
    """What the first of those that came is called."""
    return KeyboardInterrupt() if asked[0] == signal.SIGINT else TerminatedError()


def leave(number: int, frame: object) -> NoReturn:
    """End the process, where there is nothing to clean up."""
    terminated = number != signal.SIGINT
    said = SAID.replace("interrupted", "terminated") if terminated else SAID
    try:
        os.write(2, b"" if asked else f"shiftseg: {said}\n".encode())  # once is enough
    except OSError:  # nobody listens
        pass
    finally:
        os._exit(143 if terminated else 130)


# Handlers that are ours to replace: whoever takes or ignores such a signal already keeps it.
USUAL = (signal.SIG_DFL, signal.default_int_handler, leave)


def begin() -> None:
    """Hear signals in a process that is the command and nothing else."""
    atexit.register(_close)  # the first is the last to be called
    sys.unraisablehook = _lost
    for number in NUMBERS:
        if signal.getsignal(number) in USUAL:
            signal.signal(number, leave)


def _lost(args: UnraisableHookArgs) -> None:
    """Raise anew what came in a finaliser or a callback, which take no error.

    Whatever else is lost there, as by the readings that zarr leaves when one of them fails, is not for those who run a command.
    """
    if not (asked and issubclass(args.exc_type, KeyboardInterrupt)):
        if sys.warnoptions:
            sys.__unraisablehook__(args)
        return
    from threading import Timer, get_ident

    def send() -> None:
        if hasattr(signal, "pthread_kill"):  # which ends a call that waits, and Windows lacks
            signal.pthread_kill(waiting, asked[0])
        else:
            signal.raise_signal(asked[0])

    waiting = get_ident()
    again = Timer(AGAIN, send)
    again.daemon = True
    again.start()


def _close() -> None:
    """All is done and said, and Python takes itself apart, which would end by the signal itself."""
    for number in NUMBERS:
        if signal.getsignal(number) is leave:
            signal.signal(number, signal.SIG_IGN)
