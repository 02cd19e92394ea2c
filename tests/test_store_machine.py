"""A run out of core that is killed, cancelled and harmed in any order: equal labels or an error, and never a wrong pixel.

`SHIFTSEG_WALKS=500` walks longer.
"""

import os
import shutil
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import zarr
from grey import UNCHANGED, bars, grey_model
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from napari_shiftseg import SegmentSettings, open_result, segment
from napari_shiftseg.errors import ShiftsegError
from napari_shiftseg.events import drain
from napari_shiftseg.io import work_path
from napari_shiftseg.segmentation import segment_steps

LARGE = SegmentSettings(device="cpu", out_of_core=True, memory=1 << 30, deterministic=True, write=64)
MODEL = grey_model(deep=0.5, normalisation=UNCHANGED)
WALKS = int(os.environ.get("SHIFTSEG_WALKS", "5"))
EVENTS = st.integers(1, 60)


@cache
def images():
    """Two, which differ in a bar that crosses both blocks, and a pixel."""
    one = bars((600, 60))
    other = one.copy()
    other[480:560, 30:34] = 0.8
    other[20, 20] = 1 - other[20, 20]
    return one, other


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
        self.shown, self.away, self.bandwidth = 0, False, None
        self.begun = None  # image and settings of the unfinished run, None where another run may begin
        self.made = None  # those of the finished one
        self.torn = False  # something of the finished one

    @initialize()
    def draw(self):
        zarr.create_array(str(self.image), data=images()[0], chunks=(128, 32))

    def teardown(self):
        shutil.rmtree(self.root, ignore_errors=True)

    work = property(lambda self: work_path(self.out))
    asked = property(lambda self: (self.shown, self.bandwidth))
    wish = property(lambda self: replace(LARGE, bandwidth=self.bandwidth))

    def steps(self, **options):
        return segment_steps(self.image, MODEL, self.wish, self.out, **options)

    # -- what a user and a machine do --------------------------------------------------------------------------------

    @rule(count=EVENTS, killed=st.booleans())
    def begin(self, count, killed):
        """Run up to an event; then the process is killed, or cleans up."""
        aside = self.root / "aside"
        with suppress(ShiftsegError), closing(self.steps()) as steps:
            for _, _ in zip(range(count), steps, strict=False):
                pass
            if killed and self.work.exists():
                shutil.copytree(self.work, aside)
        if aside.exists():
            shutil.rmtree(self.work, ignore_errors=True)
            if not self.out.exists():
                aside.rename(self.work)
            shutil.rmtree(aside, ignore_errors=True)
        if self.out.exists() and self.made is None:
            self.made, self.begun, self.torn = self.asked, None, False
        elif self.work.exists() and self.begun is None:
            self.begun = self.asked

    @rule(overwrite=st.booleans())
    def finish(self, overwrite):
        """Run to the end: labels of the image that is there now, or an error that there is a reason for."""
        reason = self.away or (self.begun not in (None, self.asked) and not overwrite) or (self.made and not overwrite)
        try:
            found = drain(self.steps(overwrite=overwrite)).labels[:]
        except ShiftsegError as exc:
            assert reason, f"refused without a reason: {exc}"
            return
        assert not self.away
        np.testing.assert_array_equal(found, wanted(*self.asked))
        self.made, self.begun, self.torn = self.asked, None, False
        assert not self.work.exists()

    @rule(bandwidth=st.sampled_from([None, 0.55]))
    def wish_otherwise(self, bandwidth):
        self.bandwidth = bandwidth

    # -- what befalls them -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.work.exists())
    @rule(share=st.floats(0, 1, exclude_max=True), harm=st.sampled_from(["gone", "empty", "half", "flipped", "longer"]))
    def harm(self, share, harm):
        files = sorted(path for path in self.work.rglob("*") if path.is_file())
        if not files:
            return
        self.tear(files[int(share * len(files))], harm)

    @precondition(lambda self: self.out.exists())
    @rule(share=st.floats(0, 1, exclude_max=True), harm=st.sampled_from(["empty", "half"]))
    def harm_the_result(self, share, harm):
        files = sorted(path for path in self.out.rglob("*") if path.is_file())
        self.tear(files[int(share * len(files))], harm)
        self.torn = True

    @staticmethod
    def tear(file, harm):
        data = file.read_bytes()
        if harm == "gone":
            file.unlink()
        elif harm == "flipped" and data:
            file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 8]) + data[len(data) // 2 + 1 :])
        else:
            file.write_bytes({"empty": b"", "half": data[: len(data) // 2]}.get(harm, data + b"x"))

    @precondition(lambda self: not self.away)
    @rule(number=st.integers(0, 1))
    def change(self, number):
        zarr.open_array(str(self.image), mode="r+")[:] = images()[number]
        self.shown = number

    @rule()
    def come_and_go(self):
        self.image.rename(self.root / "away") if not self.away else (self.root / "away").rename(self.image)
        self.away = not self.away

    # -- what always holds -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.made is not None)
    @rule()
    def read(self):
        """A result says what it was made of, or that it is damaged."""
        try:
            found = open_result(self.out).labels[:]
        except Exception as exc:  # noqa: BLE001  # zarr raises anything
            assert self.torn, f"a whole result cannot be read: {exc!r}"
            return
        np.testing.assert_array_equal(found, wanted(*self.made))


def test_no_order_of_faults_gives_a_wrong_pixel(monkeypatch):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    monkeypatch.setattr("napari_shiftseg.segmentation.engine.WRITERS", 1)
    few = settings(
        max_examples=WALKS,
        stateful_step_count=12,
        deadline=None,
        derandomize=WALKS < 50,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(Store, settings=few)


if __name__ == "__main__":
    pytest.main([__file__])
