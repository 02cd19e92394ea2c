"""A process that was forked has none of the threads for which PyTorch would wait."""

import multiprocessing
import os
import re
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, sys, torch
torch.set_num_threads(int(sys.argv[1]))
import numpy as np
from napari_shiftseg import SegmentSettings, load_model, segment
from napari_shiftseg.errors import SettingsError

IMAGE = np.random.default_rng(0).random((300, 300), np.float32)

def work(model):
    try:
        found = segment(IMAGE, model or load_model("nuclei"), SegmentSettings(device="cpu")).labels
        print("done", found.shape, flush=True)
    except SettingsError as exc:
        print(exc, flush=True)

if __name__ == "__main__":
    model = load_model("nuclei")
    if sys.argv[2] == "after a pass":
        segment(IMAGE, model, SegmentSettings(device="cpu"))
    # as os.fork does, also where fork is not the default
    child = multiprocessing.get_context("fork").Process(
        target=work, args=(None if sys.argv[2] == "loaded there" else model,)
    )
    child.start()
    child.join()
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
@pytest.mark.parametrize(
    ("threads", "when", "said"),
    [
        (2, "after a pass", "this process was forked .* 2 threads.*get_context"),
        (2, "loaded there", "this process was forked .* 2 threads.*get_context"),
        (1, "after a pass", "done"),
    ],
)
def test_a_child_that_was_forked_says_so_and_does_not_wait_for_ever(threads, when, said):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(threads), when]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert found.returncode == 0, found.stderr
    assert re.search(said, found.stdout), (found.stdout, found.stderr)
