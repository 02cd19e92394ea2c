"""`tox -e cuda` fails where no test ran on a GPU: a skipped test has shown nothing."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RAN = "import pytest\n\n\n@pytest.mark.cuda\ndef test_one():\n    pass\n"
SKIPPED = "\n\n@pytest.mark.cuda\ndef test_two():\n    pytest.skip('no')\n"
MARKED_SKIP = "\n\n@pytest.mark.cuda\n@pytest.mark.skipif(True, reason='no')\ndef test_three():\n    pass\n"
FAILED = "\n\n@pytest.mark.cuda\ndef test_four():\n    assert False\n"
PLAIN = "\n\ndef test_five():\n    pass\n"
FIXTURE = "\n\n@pytest.fixture\ndef gone():\n    pytest.skip('no')\n\n\n@pytest.mark.cuda\ndef test_six(gone):\n    pass\n"

CASES = {
    "one ran": (True, RAN, ("-m", "cuda"), True),
    "one of two kinds ran": (True, RAN + PLAIN, (), True),
    "none is there": (True, PLAIN, ("-m", "cuda"), False),
    "none was chosen": (True, RAN + PLAIN, ("-k", "five"), False),
    "one was skipped": (True, RAN + SKIPPED, ("-m", "cuda"), False),
    "one was marked to be skipped": (True, RAN + MARKED_SKIP, ("-m", "cuda"), False),
    "one was skipped by a fixture": (True, RAN + FIXTURE, ("-m", "cuda"), False),
    "one failed": (True, RAN + FAILED, ("-m", "cuda"), False),
    "no device": (False, RAN, ("-m", "cuda"), False),
    "no device and no test": (False, PLAIN, ("-m", "cuda"), False),
}


@pytest.mark.parametrize(("device", "program", "chosen", "green"), CASES.values(), ids=CASES)
def test_it_is_green_only_if_a_test_ran_on_a_device(tmp_path, device, program, chosen, green):
    (tmp_path / "torch.py").write_text(  # a quick stand-in
        f"__version__ = '0'\n\n\nclass cuda:\n    is_available = staticmethod(lambda: {device})\n"
    )
    (tmp_path / "test_it.py").write_text(program)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = cuda\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'tests'}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--require-cuda", *chosen, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == green, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_tox_asks_for_it():
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini")
    assert "-m cuda --require-cuda" in settings["testenv:cuda"]["commands"]
