"""docs/performance.md is what its generator makes of the measurement files, and says only what they hold."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("fp32 contiguous", "fp32 channels_last", "bf16 channels_last")
ERRORS = ("max", "inside_max", "inside_relative_l2", "inside_share_above_1_percent")


@pytest.fixture
def generator(monkeypatch):
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of a source distribution")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("performance_page")


def test_the_page_on_disk_is_what_the_generator_writes(generator):
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == generator.page(ROOT / "docs" / "measurements")


def made_up(monai_seconds: float, over_ideal: float, error: float) -> dict[str, dict]:
    """Measurement files with chosen figures."""
    rows, ratios = [], []
    for config in CONFIGS:
        for name, seconds, operations, ours in (("tiles", 1.0, 1.1, True), ("MONAI 0.25", monai_seconds, 1.7, False)):
            off = dict.fromkeys(
                ("max", "inside_max", "inside_relative_l2", "inside_share_above_1_percent"), 0.0 if ours else 0.1
            )
            row = {
                "ndim": 2,
                "edge": 1024,
                "name": name,
                "ours": ours,
                "chosen": ours,
                "config": config,
                "seconds": [seconds] * 2,
            }
            row |= {"median": seconds, "difference": off, "flops": operations * 1e9, "over_ideal": operations}
            rows.append(row | {"flops_per_second": operations * 1e9 / seconds, "share_of_matrix_rate": 0.9})
        for theirs in {config, "fp32 contiguous"}:
            one = {"ndim": 2, "edge": 1024, "ours": "tiles", "config": config, "peer": "MONAI 0.25", "peer_config": theirs}
            ratios.append(one | {"median": monai_seconds, "lowest": monai_seconds, "highest": monai_seconds})
    off = dict.fromkeys(ERRORS, error)
    odd = [{"name": "tiles of 64 px", "ours": True, "difference": off, "windows": 4, "off_lattice": 0, "phases": [[0], [0]]}]
    far = {**off, "inside_relative_l2": 0.02}
    odd.append({"name": "MONAI", "ours": False, "difference": far, "windows": 25, "off_lattice": 9, "phases": [[0, 3], [0, 3]]})
    plan = {"ndim": 3, "levels": 3, "features": 32, "edge": 1024, "memory": 8 << 30, "goal": 1.25, "method": "stream"}
    said = {"date": "2000-01-01", "command": "python benchmarks/it.py", "machine": {"device": "an abacus"}}
    return {
        "peers": {
            **said,
            "rates": {"bandwidth": 1e10, "matrix": {"float32": 1e10, "bfloat16": 2e10}},
            "settings": {"levels": {"2": 3}, "features": {"2": 16}, "window": {"2": 256}, "turns": 2},
            "rows": rows,
            "ratios": ratios,
            "odd_image": [{"network": "untrained", "edge": 1003, "period": 8, "rows": odd}],
        },
        "limits": {
            **said,
            "rates": {"bandwidth": 1e10, "matrix": {"float32": 1e10}},
            "networks": [],
            "plans": [{**plan, "chosen": True, "over_ideal": over_ideal, "plan": "strips"}],
            "counted": [{"counted": 10, "planned": 10.0}],
            "reached": [],
        },
    }


@pytest.mark.parametrize(("seconds", "over", "error", "good"), [(9.0, 1.1, 1e-6, True), (1.2, 1.4, 1e-2, False)])
def test_verdicts_and_sentences_follow_the_figures(generator, tmp_path, seconds, over, error, good):
    for name, document in made_up(seconds, over, error).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    page = generator.page(tmp_path)
    verdicts = [
        line.split(" | ")[3] for line in page.splitlines() if line.startswith(("| like for", "| out of", "| operations"))
    ]
    share = verdicts.pop(-2)  # of the matrix rate: met in both
    assert share == "met" and set(verdicts) == {"met" if good else "**missed**"} and len(verdicts) == 5
    assert ("rounding of float32" in page) == good and ("That is more than rounding" in page) != good
    assert "1 have windows off the lattice (relative L2 2.0e-02 to 2.0e-02)" in page
    assert f"{seconds:.2f}** ({seconds:.2f} to {seconds:.2f})" in page and "an abacus" in page


def test_streams_and_parts_of_the_tile_path_have_their_sections(generator, tmp_path):
    case = {"case": "plane", "seconds": 1.0, "ratio": 1.0, "cpu_ratio": 1.0, "flops": 1.05, "difference": 0.0}
    whole = {**case, "strip": None, "chosen": False, "peak_memory": 500e6, "state": None}
    strips = [
        {**case, "strip": n, "chosen": n == 32, "peak_memory": 40e6, "state": 8e6, "difference": n / 1e9} for n in (0, 32)
    ]
    tall = [{"rows": n, "width": 64, "peak_memory": n * 1e6, "seconds": 2.0, "megapixels_per_second": 1.0} for n in (50, 75)]
    streaming = {"command": "c", "cases": [whole, *strips], "tall": tall}
    way = {"seconds": 2.0, "ratio": 1.0, "difference": 0.0}
    parts = [{"part": "border", "tile": 512, "whole": way, "cropped": {**way, "ratio": 0.5}}, {"part": "bfloat16", "ari": 0.5}]
    for name, document in {"streaming": streaming, "tile_path": {"command": "c", "rows": parts}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    page = generator.page(tmp_path)
    assert "50 to 75 rows | at most 1.1 | 1.50 | **missed** | peaks of 50, 75 MB |" in page
    assert "of the whole image, plane | at most 10 % | 8 % | met | 40 of 500 MB" in page
    assert "plane: 1 of 2 strips bit for bit, at most 3.2e-08 off." in page
    assert "| border | tile 512 | cropped | 2 | 0.50 | 0.0e+00 |" in page and "bfloat16: ari 0.5." in page


def test_clustering_is_judged_by_its_figures(generator, tmp_path):
    base = {"pixels": 1000, "dimensions": 3, "truth": 100, "ari": 0.9, "ari_pure": 1.0}
    small = [
        {"method": "ours", **base, "seconds": 0.1, "modes": 102},
        {"method": "scikit-learn MeanShift", **base, "seconds": 25.0, "modes": 900, "times_ours": 250.0},
        {"method": "scikit-learn, extrapolated", "pixels": 1000, "dimensions": 3, "truth": 100, "seconds": 30.0},
    ]
    more = {"mixed": 0.1, "objects": 9, "ari_labels": 0.5, "times_first": 1.0}
    flat = [{**small[0], **more, "truth": 100 * n, "seconds_labels": 1.0, "labels_times_first": float(n)} for n in (1, 2)]
    joined = [{"method": "ours, join", "cells": 9, "blocks": 2, "seconds": 0.1, "objects": 9, "ari": 1.0}]
    joined.append({**joined[0], "method": "theirs", "times_ours": 10.0})
    found = {"command": "c", "small": small, "flatness": flat, "merging": joined, "versions": {"hdbscan": None}}
    (tmp_path / "clustering.json").write_text(json.dumps(found))
    page = generator.page(tmp_path)
    assert "over scikit-learn | 30 x | 250 x | met | 0.1 s against 25 s" in page
    assert "number of modes | within 1 % | 102 of 100 | **missed** |" in page
    assert "100 to 200 clusters | at most 1.3 | 2.00 | **missed** |" in page
    assert "| merging: over theirs | 150 x | 10 x | **missed** |" in page
    assert "| 1,000 x 3 | scikit-learn, extrapolated | 30 | - | - | 100 | - | - |" in page


def test_a_section_without_its_file_is_left_out(generator, tmp_path):
    (tmp_path / "limits.json").write_text(json.dumps(made_up(2.0, 1.2, 0.0)["limits"]))
    headings = [line for line in generator.page(tmp_path).splitlines() if line.startswith("## ")]
    assert headings == ["## Targets", "## Limits"]
