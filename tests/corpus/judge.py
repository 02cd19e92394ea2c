"""Run a case in children of a process that has imported everything once, and judge it by rule."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from case import IMAGE, LABELS, MODEL, Case

SECONDS = 10.0  # of a processor, which is what a refusal may take
STILL = 90.0  # seconds of no work at all, and of work, after which a case hangs; a busy machine gives it less to work
PEAK = 1 << 30  # bytes above what a child has that does nothing
ROOM = 4 << 30  # bytes of addresses above that, so that a fault of ours does not end the machine
DOCUMENTED = {0, 2, 3, 4, 130, 143}
MARKER = "executed"
LONG = 1 << 28  # bytes of a file, above which its size alone is compared
# What a training says of its progress, and the folder that PyTorch makes once for what it compiles.
PROGRESS, CACHE = re.compile(r"step \d+ of \d+: "), "torchinductor_"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a case."""

    kind: str
    name: str
    code: int
    faults: tuple[str, ...]
    said: str  # on stderr
    seconds: float  # of a processor
    peak: int  # bytes

    @property
    def clean(self) -> bool:
        return not self.faults


def judge(case: Case, kept: Path, place: Path, *, base: int, real: bool = False) -> Verdict:
    """Make the files of a case, run its command, and look at all that is there afterwards.

    `kept`: what every case may use. `place`: a folder that is made and removed. `base`: peak memory of an idle child. `real`:
    as a process of its own.
    """
    work = place / "work"
    for folder in ("work", "tmp", "home"):
        (place / folder).mkdir(parents=True)
    for name in (MODEL, IMAGE, LABELS):
        shutil.copy(kept / name, work / name)
    try:
        words, faults = _made(case, work, place)
        if faults:
            return Verdict(kind=case.kind, name=case.name, code=-1, faults=faults, said="", seconds=0, peak=0)
        before = seen(work)
        real = real and "\0" not in "".join(words)  # which no system hands to a process
        code, seconds, peak = (_command if real else _forked)(words, place)
        after = seen(work)
        out, err = ((place / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
        faults = tuple(_faults(case, code, out, err, before=before, after=after, work=work))
        if not real:
            faults += ("it took more than 10 s of a processor",) * (seconds > SECONDS)
            faults += (f"it took {(peak - base) >> 20} MiB",) * (peak - base > PEAK)
        return Verdict(kind=case.kind, name=case.name, code=code, faults=faults, said=err[:600], seconds=seconds, peak=peak)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(place)], check=False)
        shutil.rmtree(place, ignore_errors=True)


def _faults(
    case: Case, code: int, out: str, err: str, *, before: dict[str, Any], after: dict[str, Any], work: Path
) -> list[str]:
    found = []
    lines = err.splitlines()
    if code == -signal.SIGKILL:
        found.append("it hung")
    elif code < 0:
        found.append(f"signal {-code}")
    elif code not in DOCUMENTED:
        found.append(f"exit code {code}")
    elif code not in case.codes:
        found.append(f"exit code {code} and not one of {sorted(case.codes)}")
    if "Traceback (most recent call last)" in err + out:
        found.append("a traceback")
    if code != 0 and len(lines) != case.lines:
        found.append(f"{len(lines)} lines on stderr and not {case.lines}")
    if code == 0 and not all(map(PROGRESS.match, lines)):
        found.append("lines on stderr of a success")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", err + out):
        found.append("control characters")
    if any(re.search(r"\[Errno \d+\]|^shiftseg \w+: '.*'$", line) for line in lines):
        found.append("a bare error of the system")
    changed = [name for name, what in before.items() if after.get(name) != what]
    if changed:
        found.append(f"changed: {', '.join(changed[:3])}")
    allowed = case.new if code == 0 else case.kept
    left = [name for name in after if name not in before and name.split("/")[0] not in allowed]
    if left:
        found.append(f"left behind: {', '.join(left[:3])}")
    if MARKER in after:
        found.append("it executed what a file brought")
    spare = [path.name for path in (work.parent / "tmp").iterdir() if not path.name.startswith(CACHE)]
    if spare:
        found.append(f"temporary files: {', '.join(spare[:3])}")
    if code == 0 and not found and case.check is not None:
        wrong = in_child(lambda: case.check(work, out), STILL)
        found += [f"wrong: {wrong}"] if wrong else []
    return found


def _made(case: Case, work: Path, place: Path) -> tuple[list[str], tuple[str, ...]]:
    """The words of the command, from a child, so that no thread of a library is in the process that forks."""

    def make() -> list[str]:
        os.chdir(work)
        return [os.fspath(word) for word in case.make(work, random.Random(case.seed))]

    try:
        return in_child(make, STILL), ()
    except ChildError as exc:
        return [], (f"the case cannot be made: {exc}",)


class ChildError(Exception):
    """What a child raised."""


def in_child(work: Callable[[], Any], seconds: float) -> Any:
    """What a function gives that runs in a child, as JSON."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            try:
                answer = {"value": work()}
            except BaseException as exc:  # noqa: BLE001
                answer = {"error": "".join(traceback.format_exception(exc))}
            os.write(file.fileno(), json.dumps(answer).encode("utf-8", "surrogateescape"))
            os._exit(0)
        _wait(pid, seconds)
        file.seek(0)
        answer = json.loads(file.read().decode("utf-8", "surrogateescape") or '{"error": "it died"}')
    if "error" in answer:
        raise ChildError(answer["error"])
    return answer["value"]


def _forked(words: list[str], place: Path) -> tuple[int, float, int]:
    """Exit code, seconds of a processor and peak memory of a command in a child."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = _command_here(words, place)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status, usage = _wait(pid, STILL)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


def _command_here(words: list[str], place: Path) -> int:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    for number, name in ((1, "stdout"), (2, "stderr")):
        handle = os.open(place / name, os.O_WRONLY | os.O_CREAT, 0o666)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), "utf-8", "surrogateescape")
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), "utf-8", "backslashreplace", write_through=True)
    os.chdir(place / "work")
    os.environ.update(_homes(place))
    tempfile.tempdir = None
    sys.argv = ["shiftseg", *words]
    from napari_shiftseg.cli import main

    return main()


def _homes(place: Path) -> dict[str, str]:
    return {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "XDG_CACHE_HOME": str(place / "home")}


def _command(words: list[str], place: Path) -> tuple[int, float, int]:
    """As a process of its own, as a user calls it."""
    with (place / "stdout").open("wb") as out, (place / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "napari_shiftseg.cli", *words],
            cwd=place / "work",
            env={**os.environ, **_homes(place)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            code = process.wait(10 * STILL)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    return code, 0.0, 0


def _wait(pid: int, seconds: float) -> tuple[int, resource.struct_rusage]:
    """Wait for a child, which is killed where it works for so long, or waits for so long without working."""
    since, worked, pause = time.monotonic(), -1.0, 0.002
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, usage
        state, now = _state(pid)
        if state == "R" or now != worked:
            since, worked = time.monotonic(), now
        if worked > seconds or time.monotonic() - since > seconds:
            os.kill(pid, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _state(pid: int) -> tuple[str, float]:
    """What a process does, and how many seconds it has worked."""
    if sys.platform != "linux":
        return "S", 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle() -> int:
    """Peak memory of a child that does nothing."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return _wait(pid, STILL)[1].ru_maxrss << 10


def seen(folder: Path) -> dict[str, Any]:
    """All that lies below a folder: kind, and a digest of what a file holds; links are not followed."""
    found: dict[str, Any] = {}
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            name = os.path.relpath(entry.path, folder)
            kind = entry.stat(follow_symlinks=False).st_mode
            if entry.is_dir(follow_symlinks=False):
                found[name] = "folder"
                waiting.append(Path(entry.path))
            elif entry.is_symlink():
                found[name] = os.readlink(entry.path)
            elif stat.S_ISREG(kind):
                with open(entry.path, "rb") as file:
                    # of a file that is only long, its end will do
                    found[name] = (
                        entry.stat().st_size,
                        hashlib.file_digest(file, "sha256").hexdigest() if entry.stat().st_size < LONG else "",
                    )
            else:
                found[name] = stat.S_IFMT(kind)
    return found
