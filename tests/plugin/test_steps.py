"""What the pages say to click and to type is clicked and typed, in a napari of its own, and what is seen then is looked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "scripts"

if not SCRIPTS.is_dir():
    pytest.skip("the documentation is not part of a source distribution", allow_module_level=True)

pytestmark = pytest.mark.gui

TASKS = sorted(path.stem for path in (SCRIPTS / "tasks").glob("*.py") if not path.stem.startswith("_"))
QUICK = {"synthetic"}  # no network runs


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TASKS])
def test_the_steps_of_a_page_do_what_it_says(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "steps.py"), "--run", name, "--out", str(tmp_path)],
        env={**os.environ, "HAND_PATIENCE": "300"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert len(list(tmp_path.glob("*.png"))) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "look", "said"),
    [("Generate", "pass", "looks at nothing"), ("Spacing", 'hand.sees("225")', "names {'Spacing'}")],
    ids=["nothing is looked at", "a control that is named and not used"],
)
def test_a_step_that_looks_at_nothing_or_uses_nothing_that_it_names_fails(name, look, said, tmp_path):
    """The run itself holds sentence and hand together."""
    step = f'@task.step("**{name}**.", "It.")\ndef generate(hand, folder):\n    hand.press("Generate")\n    {look}\n'
    (tmp_path / "tasks").mkdir()
    for file in ("steps.py", "hand.py", "tasks/_images.py", "tasks/synthetic.py"):
        (tmp_path / file).write_text((SCRIPTS / file).read_text(encoding="utf-8"), encoding="utf-8")
    task = tmp_path / "tasks" / "synthetic.py"
    text = task.read_text(encoding="utf-8")
    start = text.index('@task.step("**Generate**."')
    task.write_text(text[:start] + step + "\n\n" + text[text.index("@task.step", start + 1) :], encoding="utf-8")
    line = [sys.executable, str(tmp_path / "steps.py"), "--run", "synthetic"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode and said in done.stderr, done.stderr[-2000:]


@pytest.mark.slow
def test_a_whole_day_goes_by_mouse_and_keys_on_real_images(shared_data, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "day.py"), "--data", str(shared_data), "--out", str(tmp_path / "pictures")],
        env={**os.environ, "HAND_PATIENCE": "300", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert len(list((tmp_path / "pictures").glob("day-*.png"))) >= 14  # an act each, but for the one without a window
