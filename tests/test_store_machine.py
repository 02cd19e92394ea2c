"""A run out of core that is killed, cancelled and harmed in any order: equal labels or an error, and never a wrong pixel.

`SHIFTSEG_WALKS=500` walks longer. What a power cut leaves is the matter of test_resumption.py: nothing is synced here.
"""

import os
import shutil
import tempfile
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from grey import UNCHANGED, bars, grey_model
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from napari_shiftseg import SegmentSettings, open_result, segment
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.events import drain
from napari_shiftseg.io import WorkFolder, work_path
from napari_shiftseg.segmentation import segment_steps

LARGE = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True, write=64)
MODEL = grey_model(deep=0.5, normalisation=UNCHANGED)
WALKS = int(os.environ.get("SHIFTSEG_WALKS", "24"))
EVENTS = st.integers(1, 18)  # a run from the beginning has 18,
LATER = st.sampled_from([8, 9, 10, 12, 14, 15, 16, 17, 17, 18, 18])  # and with the eighth a block is finished
IMAGES = st.integers(0, 2)
WIDTHS = st.sampled_from([None, 0.55])
PLACES = st.integers(0, 1 << 16)  # of all that there are, again and again
HARMS = st.sampled_from(["gone", "empty", "half", "flipped", "longer"])
TORN = st.tuples(PLACES, PLACES, HARMS)
FIRST = st.sampled_from(["anything", "a bit of a chunk", "a block is lost, and its pixels change"])
HARMED = st.lists(TORN, min_size=1, max_size=2)


@cache
def images():
    """The second has another bar that crosses both blocks, and another pixel; the third another pixel in the last block."""
    one = bars((600, 60))
    other, last = one.copy(), one.copy()
    other[480:560, 30:34] = 0.8
    other[20, 20] = 1 - other[20, 20]
    last[585:595, 20:30] = 1 - last[585:595, 20:30]
    return one, other, last


@cache
def wanted(number, bandwidth):
    """Labels of an image in memory."""
    wish = replace(LARGE, out_of_core=False, memory=None, bandwidth=bandwidth)
    return segment(images()[number], MODEL, wish).labels


class Store(RuleBasedStateMachine):
    """A result, the folder of its unfinished run, and the image, of which each may suffer."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-"))
        self.image, self.out = self.root / "image.zarr", self.root / "r.zarr"
        self.shown, self.bandwidth = 0, None
        self.begun = None  # image and settings of the unfinished run, None where another run may begin
        self.made = None  # those of the finished one
        self.torn = False  # something of the finished one
        self.kept = frozenset()  # parts that are finished, and that nothing has befallen
        self.moved = False  # whether the result is there, and all that it was made of

    @initialize(count=LATER, harms=HARMED, what=FIRST, number=IMAGES, bandwidth=WIDTHS)
    def draw(self, count, harms, what, number, bandwidth):
        """Each walk begins with what harms most."""
        zarr.create_array(str(self.image), data=images()[0], chunks=(128, 32))
        if what == "a block is lost, and its pixels change":  # so that no part that is left was made of other pixels
            self.begin(count, True, False)
            (self.work / "faces/0-1.npz").unlink(missing_ok=True)
            self.change(2)
            self.finish(False, False)
            return
        if what == "a bit of a chunk":  # whose size stays what it was
            kind, place, _ = harms[0]
            harms = [(kind % 2, place, "flipped")]  # of `kinds_of`, chunks come first
        self.suffer(count, harms, number, bandwidth)

    def teardown(self):
        shutil.rmtree(self.root, ignore_errors=True)

    work = property(lambda self: work_path(self.out))
    asked = property(lambda self: (self.shown, self.bandwidth))
    wish = property(lambda self: replace(LARGE, bandwidth=self.bandwidth))
    other = property(lambda self: self.begun not in (None, self.asked))

    def steps(self, **options):
        return segment_steps(self.image, MODEL, self.wish, self.out, **options)

    def finished(self):
        self.made, self.begun, self.torn, self.kept = self.asked, None, False, frozenset()
        self.moved = False

    def parts(self):
        return {path.relative_to(self.work).as_posix() for path in self.work.glob("*/*.npz")}

    # -- what a user and a machine do --------------------------------------------------------------------------------

    @rule(count=EVENTS, killed=st.booleans(), overwrite=st.booleans())
    def begin(self, count, killed, overwrite):
        """Run up to an event; then the process is killed, or cleans up."""
        aside, goes_on = self.root / "aside", self.begun == self.asked
        try:
            with closing(self.steps(overwrite=overwrite)) as steps:
                for _ in range(count):
                    next(steps)
                if killed:
                    copy_while_it_is_written(self.work, aside)
        except StopIteration:
            self.finished()
            return
        except ShiftsegError as exc:
            assert self.other or self.made, f"refused without a reason: {exc}"
            return
        if killed:
            shutil.rmtree(self.work, ignore_errors=True)
            aside.rename(self.work)
        kept = self.kept if goes_on else frozenset()
        self.begun, self.kept = (self.asked if self.work.exists() else None), frozenset(self.parts())
        assert kept <= self.kept, "work that was finished is lost"

    @rule(overwrite=st.booleans(), killed=st.booleans(), away=st.sampled_from([False, False, True]))
    def finish(self, overwrite, killed, away=False):
        """Run to the end: labels of the image that is there now, or an error that there is a reason for.

        `killed`: before what the result was made of is removed. `away`: the image is not there.
        """
        if away:
            self.image.rename(self.root / "away")
            with pytest.raises(ShiftsegError):
                drain(self.steps(overwrite=overwrite))
            (self.root / "away").rename(self.image)
            return
        reason = (self.other and not overwrite) or (self.made and not overwrite and not self.moved)
        moved = self.made is not None and self.work.exists()
        try:
            with patch.object(WorkFolder, "remove", lambda _: None) if killed else nullcontext():
                found = drain(self.steps(overwrite=overwrite))
        except ShiftsegError as exc:
            assert reason, f"refused without a reason: {exc}"
            return
        torn = self.torn and moved and self.made == self.asked  # that very result
        self.finished()
        self.torn, self.moved = torn, killed
        self.begun = self.asked if self.work.exists() else None
        assert killed or not self.work.exists()
        self.check(found.labels)

    @rule(count=LATER, harms=HARMED, number=IMAGES, bandwidth=WIDTHS)
    def suffer(self, count, harms, number, bandwidth):
        """What happens most: a run is killed, its folder suffers, and the same command goes on, now or when it has changed."""
        self.begin(count, True, self.made is not None)
        self.begin(1, False, self.made is not None)
        before = self.asked
        if number != self.shown:
            self.change(number)
        self.wish_otherwise(bandwidth)
        if before != self.asked:
            self.finish(False, False)
            self.change(before[0])
            self.wish_otherwise(before[1])
        for one in harms:
            self.harm(one)
        self.finish(self.made is not None, False)

    @rule(count=EVENTS, number=IMAGES, overwrite=st.booleans())
    def finish_while_it_changes(self, count, number, overwrite):
        """The image is written anew during a run: an error, or labels of what is there at the end."""
        before = self.asked
        try:
            with closing(self.steps(overwrite=overwrite)) as steps:
                for _ in range(count):
                    next(steps)
                self.change(number)
                found = drain(steps)
        except StopIteration:
            self.finished()
            return
        except ShiftsegError:
            if self.asked != before:  # blocks of both, of which another run may go on with none
                self.begun, self.kept = "both images", frozenset()
            return
        self.finished()
        self.check(found.labels)

    @rule(bandwidth=WIDTHS)
    def wish_otherwise(self, bandwidth):
        self.moved = self.moved and self.bandwidth == bandwidth
        self.bandwidth = bandwidth

    # -- what befalls them -------------------------------------------------------------------------------------------

    @rule(one=TORN)
    def harm(self, one):
        """A file of one of the folders in which a run keeps what is unfinished."""
        kind, place, harm = one
        files = sorted(path for path in self.work.rglob("*") if path.is_file())
        if not files:
            return
        self.kept, self.moved = frozenset(), False
        kinds = kinds_of(files)
        chosen = kinds[kind % len(kinds)]
        tear(chosen[place % len(chosen)], harm)

    @rule(place=PLACES, harm=st.sampled_from(["empty", "half"]))
    def harm_the_result(self, place, harm):
        files = sorted(path for path in self.out.rglob("*") if path.is_file())
        if not files:
            return
        self.moved = False
        tear(files[place % len(files)], harm)
        self.torn = True

    @rule(number=IMAGES)
    def change(self, number):
        zarr.open_array(str(self.image), mode="r+")[:] = images()[number]
        self.shown, self.kept, self.moved = number, frozenset(), False

    # -- what always holds -------------------------------------------------------------------------------------------

    @rule()
    def read(self):
        """A result says what it was made of, or that it is damaged."""
        if self.made is None:
            return
        try:
            labels = open_result(self.out).labels
        except ShiftsegError as exc:
            assert self.torn, f"a whole result cannot be read: {exc!r}"
            return
        self.check(labels)

    def check(self, labels):
        try:
            found = labels[:]
        except Exception as exc:  # noqa: BLE001  # zarr raises anything
            assert self.torn, f"a whole result cannot be read: {exc!r}"
            return
        np.testing.assert_array_equal(found, wanted(*self.made))


def kinds_of(files):
    """The files by what they are: chunks of each array, parts of each pass, and what describes the run and its arrays."""
    found = {}
    for file in files:
        chunk = "c" in file.parts
        place = file.parents[2] if chunk else file.parent if file.suffix == ".npz" else file.name
        found.setdefault((file.suffix in (".json", ".safetensors"), not chunk, str(place)), []).append(file)
    return [found[key] for key in sorted(found)]


def copy_while_it_is_written(folder, to):
    """As a process that is killed would leave it: what is removed meanwhile is not there."""
    for path in sorted(folder.rglob("*")):
        place = to / path.relative_to(folder)
        with suppress(FileNotFoundError):
            place.mkdir(parents=True, exist_ok=True) if path.is_dir() else shutil.copy2(path, place)


def tear(file, harm):
    data = file.read_bytes()
    if harm == "gone":
        file.unlink()
    elif harm == "flipped" and data:
        file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 8]) + data[len(data) // 2 + 1 :])
    else:
        file.write_bytes({"empty": b"", "half": data[: len(data) // 2]}.get(harm, data + b"x"))


def test_no_order_of_faults_gives_a_wrong_pixel(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    monkeypatch.setattr("napari_shiftseg.segmentation.engine.WRITERS", 1)
    monkeypatch.setattr("napari_shiftseg.files.sync_file", lambda _: None)
    few = settings(
        max_examples=WALKS,
        stateful_step_count=6,
        deadline=None,
        derandomize=WALKS < 50,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=(Phase.generate,) if WALKS < 50 else (Phase.generate, Phase.shrink),  # which takes minutes
    )
    run_state_machine_as_test(Store, settings=few)


if __name__ == "__main__":
    pytest.main([__file__])
