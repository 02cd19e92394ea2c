"""Hundreds of hostile cases for the command, each in a child with limits of time and memory, judged by rule.

    python tests/corpus/corpus.py --all [--real 40] [--notes FILE] [--out docs/measurements/corpus.json]
    python tests/corpus/corpus.py --share 10            # every tenth
    python tests/corpus/corpus.py --only images/cut     # those whose names hold that, with what they say

A case is clean if its exit code is one of the documented ones that it may have, a failure says one line on stderr and nothing
of a library, there is no traceback, nothing is left behind, no file that was there has changed, nothing that a file brings was
executed, it took at most 10 s of a processor and 1 GiB, and a success has the labels that are known to be right. All is
imported once, and each case is a fork of that; `--real N` runs every Nth as a process of its own as well. Where `--notes` names
a file, verdicts are kept there, one a line, and cases that it holds as clean are not run again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # a fork of a process with PyTorch's threads would wait for them
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "made")]

from case import IMAGE, LABELS, MODEL, Case  # noqa: E402
from judge import Verdict, idle, in_child, judge  # noqa: E402

KINDS = ("images", "stores", "models", "results", "data", "options", "targets")


def all_cases() -> list[Case]:
    """Of all kinds, in an order that mixes them."""
    found = [case for kind in KINDS for case in import_module(f"corpus_{kind}").cases()]
    names = Counter(f"{case.kind}/{case.name}" for case in found)
    assert max(names.values()) == 1, names.most_common(1)
    return sorted(found, key=lambda case: case.seed)


def prepare(folder: Path) -> None:
    """What every case may use: a model, an image, and its labels."""
    import numpy as np
    from grey import bars, grey_model

    from napari_shiftseg import SegmentSettings, save_model, segment

    model = grey_model()
    save_model(folder / MODEL, model)
    pixels = np.round(5 * bars((96, 80))).astype(np.uint8)
    np.save(folder / IMAGE, pixels)
    labels = segment(pixels, model, SegmentSettings(device="cpu")).labels
    assert labels.max() > 5
    np.save(folder / LABELS, labels)


def warm() -> None:
    """Import all that a command imports, without starting a thread."""
    import torch

    torch.set_num_threads(1)
    modules = (
        "cli cli.segment cli.seams cli.measure cli.export cli.evaluate cli.train cli.relabel cli.verify cli.probe cli.synth"
    )
    more = (
        "segmentation io network instances analysis evaluation picture io.tiff io.ome_zarr io.result io.rois segmentation.run"
    )
    for name in f"{modules} {more}".split():
        import_module(f"napari_shiftseg.{name}")
    for name in (
        "tifffile",
        "zarr",
        "imagecodecs",
        "skimage.measure",
        "scipy.ndimage",
        "hypothesis",
        "psutil",
        "pydantic.dataclasses",
    ):
        import_module(name)
    gc.collect()
    gc.freeze()  # a child that collects would copy all pages


def noted(file: Path | None) -> dict[str, Verdict]:
    """Verdicts of clean cases by name, of runs before."""
    if file is None or not file.exists():
        return {}
    found = [Verdict(**json.loads(line)) for line in file.read_text("utf-8").splitlines() if line.endswith("}")]
    return {f"{one.kind}/{one.name}": replace(one, faults=()) for one in found if not one.faults}


def run(cases: list[Case], *, at_once: int, real: int, tell: bool, notes: Path | None = None) -> list[Verdict]:
    """Verdicts of cases; every `real`th runs as a process as well, and is clean if both are and say the same code."""
    before = noted(notes)
    with tempfile.TemporaryDirectory(prefix="corpus-") as root:
        kept = Path(root) / "kept"
        kept.mkdir()
        in_child(lambda: prepare(kept), 300)
        base = idle()

        def one(item: tuple[int, Case]) -> Verdict:
            number, case = item
            if f"{case.kind}/{case.name}" in before:
                return before[f"{case.kind}/{case.name}"]
            verdict = judge(case, kept, Path(root) / str(number), base=base)
            if real and number % real == 0:
                other = judge(case, kept, Path(root) / f"{number}-real", base=base, real=True)
                differs = (f"exit code {other.code} as a process of its own",) * (other.code != verdict.code)
                verdict = replace(verdict, faults=(*verdict.faults, *other.faults, *differs))
            if notes is not None:
                with notes.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(verdict)) + "\n")
            if tell or not verdict.clean:
                text = f"{verdict.said.strip()} [{verdict.seconds:.1f} s, {verdict.peak >> 20} MiB]"
                print(
                    f"{verdict.kind}/{verdict.name}: {verdict.code} {'; '.join(verdict.faults) or 'clean'} | {text}", flush=True
                )
            if number % 100 == 99:
                print(f"{number + 1} of {len(cases)}", flush=True)
            return verdict

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(one, enumerate(cases)))


def rows(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Counts by kind."""
    made = []
    for kind in KINDS:
        of = [verdict for verdict in verdicts if verdict.kind == kind]
        codes = Counter(verdict.code for verdict in of)
        made.append(
            {
                "kind": kind,
                "tried": len(of),
                "clean": sum(verdict.clean for verdict in of),
                "refused": sum(count for code, count in codes.items() if code != 0),
                "seconds": round(max((verdict.seconds for verdict in of), default=0), 1),
            }
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="all cases")
    which.add_argument("--share", type=int, metavar="N", help="every Nth case")
    which.add_argument("--only", metavar="TEXT", help="cases whose names hold a text")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave the first N of these out")
    parser.add_argument("--at-once", type=int, default=2, help="cases side by side")
    parser.add_argument("--real", type=int, default=0, metavar="N", help="every Nth as a process of its own as well")
    parser.add_argument("--notes", type=Path, metavar="FILE", help="keep verdicts here, and leave out those that are clean")
    parser.add_argument("--out", type=Path, help="JSON")
    wishes = parser.parse_args()
    warm()
    cases = all_cases()
    if wishes.share:
        cases = cases[:: wishes.share]
    if wishes.only:
        cases = [case for case in cases if wishes.only in f"{case.kind}/{case.name}"]
    cases = cases[wishes.skip :]
    verdicts = run(cases, at_once=wishes.at_once, real=wishes.real, tell=bool(wishes.only), notes=wishes.notes)
    table = rows(verdicts)
    print(json.dumps(table, indent=1))
    if wishes.out:
        sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
        bench = import_module("bench")
        document = {"cases": len(verdicts), "clean": sum(v.clean for v in verdicts), "rows": table}
        command = {"command": f"python tests/corpus/corpus.py {' '.join(sys.argv[1:])}"}
        bench.keep(wishes.out, {**bench.origin("zarr", "tifffile"), **command, **document})
    return 0 if cases and all(verdict.clean for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
