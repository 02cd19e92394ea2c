"""Whether the tests of docs/rules.md can fail: the code is broken line by line, and the tests of a sentence have to notice.

    python benchmarks/mutants.py [--only TEXT ...] [--out docs/measurements/mutants.json]

Each mutant changes one line of one function in a copy of `src`, and names a sentence of docs/rules.md by its first words. Only
the tests that stand beside the sentence run, on the copy. The mutant is killed if one of them fails that passes on an unchanged
copy; one that cannot be imported, or stops the tests from being collected, is none and counts as survived.

FILE is written after each mutant. A run that is started again keeps the rows whose code and tests are still the same.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "napari_shiftseg"
LONGEST = 1800  # seconds after which a mutant that runs on is given up
STRANGE = 9  # exit code of a run that did not import the copy


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A change of one line that one sentence forbids."""

    sentence: str  # how it begins in docs/rules.md
    where: str  # file below the package, and the function or constant in it
    old: str
    new: str


def _m(sentence: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(sentence=sentence, where=where, old=old, new=new)


MUTANTS = (
    # -- output functions
    _m(
        '"Absolute" and',
        "analysis/equality.py::_equal",
        "narrow(axis, max(step, 0), edge)",
        "narrow(axis, max(-step, 0), edge)",
    ),
    _m('"Absolute" and', "analysis/equality.py::relatively_equal", "[b - a for", "[a - b for"),
    _m('"Periodic-t', "analysis/probe.py::_sensitivity_steps", "shift, length), moved", "0, length), moved"),
    _m('"Periodic-t', "analysis/probe.py::_probed", "if value <= bench.equal", "if value <= 1e6 * bench.equal"),
    _m(
        "A valid U-Net is periodic",
        "geometry/spec.py::UNetSpec.period",
        "prod(level[axis] for level in self.factors)",
        "max((level[axis] for level in self.factors), default=1)",
    ),
    _m("A valid U-Net is periodic", "network/unet.py::_convolution", "(k - 1) // 2 - lost for", "(k - 1) // 2 for"),
    _m(
        '"At most `f^(dl)`"',
        "analysis/constructions.py::passing_network",
        "_pass(first, spec.channels[level])",
        "_pass(first, 0)",
    ),
    _m('"At most `f^(dl)`"', "analysis/constructions.py::passing_network", ".weight[0, 0] = 1.0", ".weight[0, 0] = 0.0"),
    _m("Convolution and ReLU", "network/unet.py::_convolution", "padding=padding, **more", "padding=padding, stride=2, **more"),
    _m("Max pooling is", "network/unet.py::POOL", "1: F.max_pool1d", "1: F.avg_pool1d"),
    _m(
        "An encoder block",
        "geometry/spec.py::UNetSpec.factors",
        "((self.pool,) * self.ndim,) * self",
        "((2 * self.pool,) * self.ndim,) * self",
    ),
    _m("Upsampling turns", "network/unet.py::_raising", "layer.factor, layer.factor)", "layer.factor, 1)"),
    _m("A skip and the deep path", "network/unet.py::_centre", "slice(start, start + want)", "slice(start, start + want + 1)"),
    _m(
        "`U_i`, the network",
        "network/unet.py::UNet.forward",
        "[_centre(skips.pop(), x.shape[2:]), x]",
        "[x, _centre(skips.pop(), x.shape[2:])]",
    ),
    # -- tiling
    _m(
        "Stitched tiles are",
        "geometry/lattice.py::ImageAxis._valid",
        "range(begin, domain, write)",
        "range(begin, domain, period)",
    ),
    _m('"It is necessary', "geometry/rules.py::_multiples", "if write % period:", "if write % 2:"),
    _m('"It is necessary', "geometry/plan.py::_checked_edges", "if edge % period and", "if edge % 2 and"),
    _m(
        "Tiles of `n * f^l`",
        "geometry/lattice.py::ImageAxis._valid",
        "slice(crop + back, crop + back + end",
        "slice(crop, crop + end",
    ),
    _m("Tiles of `n * f^l`", "analysis/verify.py::_compare", ".max() > allowed", ".max() > 1e9 * allowed"),
    _m(
        "Tiles off the period",
        "analysis/effective.py::_changes",
        "narrow(axis + 1, step, length)",
        "narrow(axis + 1, 0, length)",
    ),
    _m("Tiles off the period", "analysis/effective.py::_largest", "count * step % period", "step % period"),
    _m("Tiles off the period", "paper/measure.py::seam_sizes", "replace(setup, write=size)", "setup"),
    _m("A larger tile", "geometry/plan.py::_windows", "start // factor, -(-stop // factor)", "start // factor, stop // factor"),
    _m(
        "A sliding window",
        "geometry/lattice.py::ImageAxis._valid",
        "slice(crop + back, crop + back + end",
        "slice(crop + start % 2, crop + start % 2 + end",
    ),
    _m(
        "For the same reason",
        "geometry/lattice.py::ImageAxis._valid",
        "range(begin, domain, write)",
        "range(begin, domain, max(2, write))",
    ),
    _m(
        "Zero padding breaks",
        "geometry/rules.py::_Case.lacking",
        "if least < self.lattice.reach[axis]:",
        "if least < self.lattice.reach[axis] - 1:",
    ),
    _m("Zero padding breaks", "geometry/spec.py::_sees", "(layer.kernel[axis] - 1) // 2", "(layer.kernel[axis] - 1) // 3"),
    # -- training
    _m("With `w <= f^l`", "geometry/coverage.py::_periodic", "max(0, window - 1)", "max(0, window)"),
    _m("With `w <= f^l`", "network/train.py::_inner", "None if keep == window else keep", "None"),
    _m("With `w <= f^l`", "paper/experiment.py::Training.settings", "keep=self.keep", "keep=None"),
    _m("In 1D: with", "geometry/coverage.py::_periodic", "max(0, window - 1)", "max(0, window)"),
    _m("In 1D: with", "analysis/constructions.py::prime_network", "islice(primes, prod", "islice(_primes(), prod"),
    _m(
        "With `w > f^l`",
        "geometry/coverage.py::_periodic",
        "functions=min(window, period)",
        "functions=min(window - 1, period)",
    ),
    _m(
        "With `w > f^l`",
        "network/crops.py::_anywhere",
        "rng.integers(0, room, endpoint=True)",
        "rng.integers(0, room, endpoint=True) // 2 * 2",
    ),
    _m("With zero padding, batches", "network/train.py::_neighbouring_tiles", "if sum(corner) > 1:", "if corner[0]:"),
    _m("With zero padding, batches", "geometry/coverage.py::_alone", "window if joined else window - 1", "window"),
    _m("The loss pulls", "network/loss.py::_push", "2 * delta_dist - gap", "delta_dist - gap"),
    _m("The loss pulls", "network/loss.py::discriminative_loss", "outside) / sizes", "outside) / sizes.sum()"),
    # -- how many objects can be told apart
    _m("A constant image yields", "network/unet.py::_raising", "if layer.taps:", "if not layer.taps:"),
    _m("With fixed upsampling", "geometry/spec.py::_layers_of", "taps=int(learnt)", "taps=1"),
    _m(
        "Identical objects at distances", "synthetic/counting.py::capacity", "math.gcd(step, edge) for", "math.gcd(step, 2) for"
    ),
    _m("Identical objects at spacing", "synthetic/counting.py::capacity", "edge // math.gcd(step, edge)", "edge"),
    _m(
        'So "at most `f^(dl)`', "synthetic/counting.py::capacity_line", "math.prod(map(min, along, phases))", "math.prod(along)"
    ),
    _m("There are weights", "analysis/constructions.py::_primes", "all(n % k for k in range(2, int(n**0.5) + 1))", "n"),
    _m("With zero padding, location", "geometry/spec.py::_layers_of", "kernel = (spec.head_kernel,)", "kernel = (1,)"),
    _m("With zero padding, location", "paper/measure.py::_see_a_border", "lo < 0 or", "lo < -2 or"),
    _m("Slight noise", "synthetic/degrade.py::_displacement", "size / CONTROL_SPACING", "size / (2 * CONTROL_SPACING)"),
    _m("Slight noise", "paper/experiment.py::Training.draw", "step * self.fresh", "0"),
    # -- what the figures show
    _m('"Instances" are', "paper/measure.py::instances", "score.at_seams.splits", "score.splits"),
    _m('"Instances" are', "paper/measure.py::instances", "np.where(np.isin(truth, at_border), 0, truth)", "truth"),
    _m('"Instances" are', "paper/measure.py::instances", "bincount(found[truth == 0]", "bincount(found[truth >= 0]"),
    _m('Objects "split"', "paper/measure.py::_halves", "> 3 * GAP", "> 300 * GAP"),
    _m('Objects "split"', "paper/measure.py::_halves", "[axis]) >= 1}", "[axis]) >= 0}"),
    _m("Along the period grid", "paper/measure.py::jumps_inside", "line + 1 in positions", "line in positions"),
    _m(
        "Along the period grid",
        "paper/measure.py::grid_jumps",
        "jumps_inside(embedding, truth, plan.grid())",
        "jumps_inside(embedding, truth, other)",
    ),
    _m('So many "IDs"', "paper/measure.py::clusters", "2 * counts.max() > counts.sum()", "2 * counts.max() > 0"),
    _m('So many "IDs"', "analysis/probe.py::count_codes", "(cKDTree(unique), gap,", "(cKDTree(unique), gap / 2,"),
)


def rows() -> dict[str, list[str]]:
    """The tests that stand beside each sentence of docs/rules.md."""
    found = {}
    for line in (ROOT / "docs" / "rules.md").read_text(encoding="utf-8").splitlines():
        tests = re.findall(r"`([\w/]+\.py::\w+)`", line)
        if line.startswith("| ") and tests:
            found[line[2:].split(" | ")[0]] = [f"tests/{test}" for test in tests]
    return found


def tests_of(mutant: Mutant) -> list[str]:
    """Of the one sentence that begins so."""
    (tests,) = [tests for sentence, tests in rows().items() if sentence.startswith(mutant.sentence)]
    return tests


def digest(mutant: Mutant) -> str:
    """Of the file that is changed and of the files of the tests: while it stays, so does what came out."""
    files = {f"src/{PACKAGE}/{mutant.where.partition('::')[0]}", *(test.partition("::")[0] for test in tests_of(mutant))}
    texts = [
        mutant.where,
        mutant.old,
        mutant.new,
        *tests_of(mutant),
        *((ROOT / file).read_text("utf-8") for file in sorted(files)),
    ]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def mutated(mutant: Mutant, package: Path) -> tuple[Path, str]:
    """The file that a mutant changes, and its changed text; ValueError if that is no change of one line of the function."""
    file, _, name = mutant.where.partition("::")
    text = (package / file).read_text(encoding="utf-8")
    part = ast.get_source_segment(text, _named(ast.parse(text), name.split(".")))
    if part is None or part.count(mutant.old) != 1 or mutant.old == mutant.new or "\n" in mutant.old + mutant.new:
        raise ValueError(f"{mutant.where}: {mutant.old!r} is no part of one line")
    return package / file, text.replace(part, part.replace(mutant.old, mutant.new))


def _named(node: ast.AST, names: list[str]) -> ast.AST:
    for child in ast.iter_child_nodes(node):
        target = getattr(child, "target", None)
        if names[0] in (getattr(child, "name", None), getattr(target, "id", None)):
            return _named(child, names[1:]) if names[1:] else child
    raise ValueError(f"there is no {names[0]}")


class _First:
    """Tells a descriptor which test failed."""

    def __init__(self, to: int) -> None:
        self.to = to

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os.write(self.to, report.nodeid.encode() + b"\n")


def first_failure(tests: list[str], source: Path) -> str | None:
    """The first of tests that fails on the package in `source`, in a process of its own; None if none does or none can run."""
    read, write = os.pipe()
    child = os.fork()  # of a process that has PyTorch, and not the package
    if child == 0:
        os.chdir(ROOT)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        # plugins of other packages import Qt and napari, which no test of a sentence needs
        os.environ.update(PYTHONPATH=str(source), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        sys.path.insert(0, str(source))
        import pytest

        signal.alarm(LONGEST)  # which ends a mutant that runs on; it counts as survived
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=[_First(write)])
        file = str(getattr(sys.modules.get(PACKAGE), "__file__", ""))
        os._exit(int(code) if file.startswith(str(source)) else STRANGE)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        failed = pipe.read().split("\n")[0]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == STRANGE:
        raise SystemExit("the tests did not import the copy")
    return failed if status == 1 and failed else None


def _tried(mutant: Mutant, source: Path, sound: set[str]) -> dict[str, Any]:
    """A row; `sound` gains the test that kills it, once it has passed without the mutant."""
    started = time.monotonic()
    path, text = mutated(mutant, source / PACKAGE)
    kept = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    failed = first_failure(tests_of(mutant), source)
    path.write_text(kept, encoding="utf-8")
    if failed is not None and failed not in sound:
        if first_failure([failed], source) is not None:
            raise SystemExit(f"{failed} fails without a mutant, too")
        sound.add(failed)
    (sentence,) = [sentence for sentence in rows() if sentence.startswith(mutant.sentence)]
    row = {"sentence": sentence, "where": mutant.where, "old": mutant.old, "new": mutant.new, "killed": bool(failed)}
    return {**row, "by": failed, "seconds": round(time.monotonic() - started, 1), "digest": digest(mutant)}


def _document(out: Path | None) -> dict[str, Any]:
    return json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}


def _keep(out: Path | None, found: list[dict[str, Any]]) -> None:
    """What there is so far, whole."""
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "command": "python benchmarks/mutants.py --out docs/measurements/mutants.json",
        "mutants": len(found),
        "killed": sum(row["killed"] for row in found),
        "sentences": len({row["sentence"] for row in found}),
        "rows": found,
    }
    if out is not None:
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="mutants whose place or sentence holds one of these texts")
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    chosen = [m for m in MUTANTS if not wishes.only or any(text in m.where + m.sentence for text in wishes.only)]
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    import scipy.ndimage
    import skimage.measure
    import torch  # once for all mutants

    assert (scipy.ndimage, skimage.measure, torch) and PACKAGE not in sys.modules
    known = {row["digest"]: row for row in _document(wishes.out).get("rows", [])}
    wanted = [digest(mutant) for mutant in chosen]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        sound: set[str] = set()
        for mutant, name in zip(chosen, wanted, strict=True):
            row = known.get(name) or _tried(mutant, source, sound)
            known[name] = row
            print(f"{'killed' if row['killed'] else 'SURVIVED'} {mutant.where}: {mutant.new}  {row['by']}", flush=True)
            _keep(wishes.out, [known[one] for one in wanted if one in known])
    found = [known[one] for one in wanted]
    killed = sum(row["killed"] for row in found)
    print(f"{killed} of {len(found)} mutants killed")
    return int(killed < len(found))


if __name__ == "__main__":
    sys.exit(main())
