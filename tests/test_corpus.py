"""A tenth of the hostile cases (`corpus/corpus.py --all` runs them all): each refused in a line or segmented right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "corpus" / "corpus.py"
SHARE = os.environ.get("SHIFTSEG_CORPUS", "10")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="cases are forks with limits that Linux has")
def test_hostile_cases_are_clean():
    done = subprocess.run([sys.executable, str(SCRIPT), "--share", SHARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[:6000] + done.stderr[-2000:]
    assert '"kind": "targets"' in done.stdout


def test_there_are_as_many_cases_as_said():
    """> six hundred at least, of each kind, and none twice"""
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import corpus, json, collections as c; "
    code += "print(json.dumps(c.Counter(case.kind for case in corpus.all_cases())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    counts = json.loads(done.stdout)
    assert sum(counts.values()) >= 600 and min(counts.values()) >= 50, counts
