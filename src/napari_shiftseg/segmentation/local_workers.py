"""`LocalWorkers`: a dask scheduler in this process, and worker processes on this machine that end with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any, Self

from napari_shiftseg.segmentation.constants import CLOSING

# A nanny that lives as long as the pipe from our process, and with it its worker, which it starts again when it dies. Not
# dask's LocalCluster, whose workers run the script of the user once more: without an `if __name__ == "__main__":` that
# never ends, and with it each worker imports what the script does.
_NANNY = """
import os, sys, threading
def follow():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=follow, daemon=True).start()
from distributed.cli.dask_worker import main
main(sys.argv[1:])
"""


class LocalWorkers:
    """Worker processes of one thread each; leaving the `with` block ends them, and so does the end of this process.

    Parameters
    ----------
    count : int
        Of workers.
    log : Path
        What they say.
    failures : int
        Times that workers may die of a task before the scheduler gives it up.
    devices : sequence of str
        CUDA devices that they take in turn; none leaves them what this process sees.

    Attributes
    ----------
    address : str
        Of the scheduler, once the `with` block is entered.
    """

    def __init__(self, count: int, log: Path, *, failures: int, devices: Sequence[str] = ()) -> None:
        self._count, self._log, self._failures, self._devices = count, log, failures, devices
        self._nannies: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def __enter__(self) -> Self:
        from dask import config
        from distributed import LocalCluster

        with ExitStack() as opening:
            wish = {
                "distributed.scheduler.allowed-failures": self._failures,
                # a worker that stands still gives its task to another one after a minute, not after five
                "distributed.scheduler.worker-ttl": "60s",
            }
            with config.set(wish):
                scheduler = LocalCluster(
                    n_workers=0,
                    silence_logs=False,
                    # its web server takes any free port of this machine alone, not 8787 of all that reach it
                    scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                )
            opening.callback(scheduler.close)
            self.address = str(scheduler.scheduler_address)
            log = opening.enter_context(self._log.open("ab"))
            self._scratch = opening.enter_context(TemporaryDirectory(prefix="shiftseg-", ignore_cleanup_errors=True))
            opening.callback(self._end)
            for number in range(self._count):
                self._nannies.append(self._nanny(number, log))
            self._open = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    @property
    def ended(self) -> bool:
        """Whether a worker ended for good, which none does by itself."""
        return any(nanny.poll() is not None for nanny in self._nannies)

    def _nanny(self, number: int, log: IO[Any]) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[number % len(self._devices)]
        # the layout bounds the memory of a worker, and one that is paused or killed for it helps nobody
        options = ["--nthreads", "1", "--memory-limit", "0", "--local-directory", self._scratch]
        return subprocess.Popen(
            [sys.executable, "-c", _NANNY, self.address, "--host", "127.0.0.1", "--no-dashboard", *options],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which then ends them
        )

    def _end(self) -> None:
        for nanny in self._nannies:
            if nanny.stdin is not None:
                nanny.stdin.close()
        for nanny in self._nannies:
            with suppress(subprocess.TimeoutExpired):
                nanny.wait(CLOSING)
                continue
            nanny.kill()
            nanny.wait()


def visible_devices() -> list[str]:
    """Names of the CUDA devices that this process sees, as the environment has them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
