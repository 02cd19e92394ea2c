"""What a run out of core makes of faults in flight: equal labels or exit code 2, and never a wrong result.

    python benchmarks/faults.py --model small --edge 1100 --out docs/measurements/faults.json

Six kinds, each at a random moment of a run of `shiftseg segment`: SIGKILL, SIGTERM, a worker that is killed, a full disk (a
small tmpfs, which takes the rights to mount one), an image that goes away, an image in which pixels change. Then what was wrong
is put right, the same command is run again, and the labels are compared with those of a run left alone. A case is clean if
every exit code is one of those that the fault may have, and no pixel differs. A fault that came when the run was over already
struck nothing; it is counted apart, and another case takes its place. `small` is a network of random weights, whose many small
objects and short runs make more cases of an hour. Beside that stands which share of a run left alone went into bringing its
parts to the disk, and into digests of what was read.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kills
import numpy as np
import numpy.typing as npt
import torch
import zarr
from bench import keep, origin, parser, told

from napari_shiftseg import UNet, UNetSpec, files, open_result, save_model, synthetic
from napari_shiftseg.cli import main as shiftseg
from napari_shiftseg.network import Clustering, ModelRecord
from napari_shiftseg.segmentation.blockwise import Region

KINDS = ("SIGKILL", "SIGTERM", "a worker killed", "a full disk", "the image vanishes", "the image changes")
DISK = 64 << 20  # bytes of the small disk


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--counts", type=int, nargs=len(KINDS), default=(30, 10, 5, 5, 5, 5), help=", ".join(KINDS))
    made.add_argument("--edge", type=int, default=2560)
    made.add_argument("--model", default="nuclei", help="bundled name, file, or small")
    made.add_argument("--seed", type=int, default=0)
    wishes = made.parse_args()
    import_module("napari_shiftseg.segmentation.layout").LARGEST = {2: 512, 3: 128}
    torch.set_num_threads(1)  # those of a process that is forked are gone
    with TemporaryDirectory() as place:
        model = small_model(Path(place)) if wishes.model == "small" else wishes.model
        tried = Faults(Path(place), wishes.edge, wishes.seed, model)
        kinds = dict(zip(KINDS, wishes.counts, strict=True))
        rows = [told(tried.row(kind, count)) for kind, count in kinds.items()]
    document = {"edge": wishes.edge, "model": wishes.model, "instances": int(tried.alone.max()), **tried.costs, "rows": rows}
    keep(wishes.out, {**origin("zarr"), **document})
    return 0 if all(row["clean"] == row["tried"] for row in rows) else 1


def small_model(folder: Path) -> str:
    """A network of random weights, for which an object is what has one grey value about."""
    torch.manual_seed(0)
    net = UNet(UNetSpec(levels=1, convs=1, features=4, embedding_dim=2, foreground=True)).eval()
    with torch.no_grad():
        net.head.weight *= 30
    record = ModelRecord(window=(8, 8), clustering=Clustering(min_size=16))
    return str(save_model(folder / "small.safetensors", net, record) or folder / "small.safetensors")


class Faults:
    """Cases of faults on one image, and the labels of a run that was left alone."""

    def __init__(self, folder: Path, edge: int, seed: int, model: str) -> None:
        self.folder, self.chance, self.model = folder, random.Random(seed), model
        self.struck = False
        self.image = folder / "image.zarr"
        pixels = synthetic.blobs((edge, edge), int(kills.DENSITY * edge**2), radius=(8, 14), seed=seed).image
        zarr.create_array(str(self.image), data=pixels, chunks=(256, 256))
        self.costs: dict[str, float] = {}
        self.alone = self.left_alone("alone.zarr")
        self.number = 0

    def command(self, out: Path, *more: str) -> list[str]:
        """What a user types."""
        wish = ["--out-of-core", "--memory", "1GB", "--deterministic", "--json", *more]
        return ["segment", str(self.image), "--model", self.model, "--device", "cpu", "--out", str(out), *wish]

    def run(self, out: Path, *more: str) -> int:
        """The command in this process."""
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
            code = shiftseg(self.command(out, *more))
        print(f"exit code {code}{': ' * bool(code)}{said.getvalue().splitlines()[-1] if code else ''}", file=sys.stderr)
        return code

    def left_alone(self, name: str) -> npt.NDArray[np.uint32]:
        """Labels of a run that nothing happens to, and what of its time goes into being safe."""
        began = time.perf_counter()
        with timed(files, "sync_file") as syncing, timed(Region, "digest") as digesting:
            code = self.run(self.folder / name)
        assert code == 0
        seconds = time.perf_counter() - began
        if not self.costs:
            share = {"syncing": sum(syncing) / seconds, "digests": sum(digesting) / seconds}
            self.costs = {"seconds_left_alone": round(seconds, 1), **{f"share_{k}": round(v, 4) for k, v in share.items()}}
        return np.asarray(open_result(self.folder / name).labels[:])

    def row(self, kind: str, count: int) -> dict[str, Any]:
        """Some cases of a kind."""
        case: Callable[[Path], tuple[bool, int]] = {
            "SIGKILL": lambda out: self.killed(out, signal.SIGKILL, -signal.SIGKILL),
            "SIGTERM": lambda out: self.killed(out, signal.SIGTERM, 143),
            "a worker killed": self.worker,
            "a full disk": self.full,
            "the image vanishes": self.vanishes,
            "the image changes": self.changes,
        }[kind]
        found, missed = list[tuple[bool, int]](), list[tuple[bool, int]]()
        while len(found) < count and len(missed) <= 2 * count:
            self.number, self.struck = self.number + 1, False
            now = case(self.folder / f"{self.number}.zarr")
            (found if self.struck else missed).append(now)
        clean, wrong = (sum(fine and differing == 0 for fine, differing in some) for some in (found, missed))
        differing = sum(differing for _, differing in [*found, *missed])
        assert wrong == len(missed), "a run that no fault struck went wrong"
        return {"fault": kind, "tried": len(found), "missed": len(missed), "clean": clean, "different_pixels": differing}

    def moment(self) -> float:
        """Some seconds of a run."""
        return self.chance.uniform(0.05, 0.95) * self.costs["seconds_left_alone"]

    def differing(self, out: Path, wanted: npt.NDArray[np.uint32] | None = None) -> int:
        return int((open_result(out).labels[:] != (self.alone if wanted is None else wanted)).sum())

    def again(self, out: Path, codes: list[int], allowed: tuple[int, ...]) -> tuple[bool, int]:
        """The same command once more, where the first did not come to its end."""
        codes = codes if out.exists() else [*codes, self.run(out)]
        return all(code in allowed for code in codes[:1]) and codes[-1] in (0, *allowed), self.differing(out)

    def killed(self, out: Path, by: signal.Signals, code: int) -> tuple[bool, int]:
        """In a fork of this process, which has imported all, so that each moment is one of the run."""
        process = os.fork()
        if process == 0:
            for number in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            os._exit(shiftseg(self.command(out)))
        time.sleep(self.moment())
        os.kill(process, by)  # which waits for us, if it has ended
        found = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        self.struck = found == code
        return self.again(out, [found], (0, code))

    def worker(self, out: Path) -> tuple[bool, int]:
        seconds = self.costs["seconds_left_alone"]
        killed = kills.kill_workers(self.image, out, 1, seconds, self.chance, model=self.model)
        self.struck = killed == 1
        return True, self.differing(out)

    def full(self, out: Path) -> tuple[bool, int]:
        disk = self.folder / f"disk{self.number}"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)], check=True)
        try:
            with self.later(lambda: fill(disk / "filler")):
                code = self.run(disk / out.name)
            (disk / "filler").unlink(missing_ok=True)
            return self.again(disk / out.name, [code], (0, 2))
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def vanishes(self, out: Path) -> tuple[bool, int]:
        away = self.image.with_name("away.zarr")
        with self.later(lambda: self.image.rename(away)):
            code = self.run(out)
        if away.exists():
            away.rename(self.image)
        return self.again(out, [code], (0, 2))

    def changes(self, out: Path) -> tuple[bool, int]:
        """Either image may have been segmented, and never both."""
        array: Any = zarr.open_array(str(self.image), mode="r+")
        before = array[:]
        corner = [self.chance.randrange(size - 40) for size in array.shape]
        place = tuple(slice(at, at + 40) for at in corner)
        with self.later(lambda: array.__setitem__(place, before[place].max() - before[place])):
            code = self.run(out)
        changed = self.left_alone(f"changed{self.number}.zarr")
        if code == 0:
            wrong = min(self.differing(out), self.differing(out, changed))
        else:
            code = 0 if code == 2 and self.run(out, "--overwrite") == 0 else code
            wrong = self.differing(out, changed)
        array[:] = before
        return code == 0, wrong

    @contextmanager
    def later(self, fault: Callable[[], None]) -> Iterator[None]:
        """Do something to a run at a random moment; it strikes where that ends before the run does."""

        def strike() -> None:
            fault()
            self.struck = live.is_set()

        live = threading.Event()
        live.set()
        timer = threading.Timer(self.moment(), strike)
        timer.start()
        try:
            yield
        finally:
            live.clear()
            timer.cancel()
            timer.join()


def fill(file: Path) -> None:
    """Take all room of a disk."""
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                continue


@contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """Seconds that each call of a function takes."""
    call, seconds = getattr(owner, name), list[float]()

    def measured(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*args)
        finally:
            seconds.append(time.perf_counter() - began)

    setattr(owner, name, measured)
    try:
        yield seconds
    finally:
        setattr(owner, name, call)


if __name__ == "__main__":
    sys.exit(main())
