"""Write docs/results.md from the measurement files in docs/measurements.

    python benchmarks/results_page.py

The commands that made the measurement files stand in the page itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paper_page

from napari_shiftseg.paper import EXPERIMENTS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SETS = {
    "dsb2018_val": ("2018 Data Science Bowl, fluorescence, validation split", "data/dsb2018_fluo", "shape"),
    "dapi16_val": ("BitDepth_NucSeg, 16-bit DAPI tissue sections, validation split", "data/bitdepth_dapi16", "dataset"),
}


def load(name: str) -> dict[str, Any]:
    """One measurement file."""
    return json.loads((DOCS / "measurements" / f"{name}.json").read_text(encoding="utf-8"))


def cell(value: float | None) -> str:
    """A score for people."""
    return "-" if value is None else f"{value:.3f}"


def accuracy(name: str) -> list[str]:
    """Table of one data set: tiled, and against one pass over each whole image."""
    title, data, by = SETS[name]
    tiled, whole = load(f"nuclei_{name}"), load(f"nuclei_{name}_whole")
    lines = [
        f"### {title}",
        "",
        f"`shiftseg evaluate {data} --split val --by {by} --baseline --tile 96 --json` and the same with `--whole`.",
        "",
        "| images | objects | AP@0.5 pooled | mean over images | true centres | Otsu + watershed | splits | merges |"
        " AP tiled - AP whole |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups = {"all": (tiled, whole)} | {
        key: (part, whole["by"][key]) for key, part in tiled["by"].items() if len(tiled["by"]) > 1
    }
    for key, (part, other) in groups.items():
        pooled = part["pooled"]
        lines.append(
            f"| {key} ({part['mean']['images']}) | {pooled['tp'] + pooled['fn']} | **{cell(pooled['ap'])}** | "
            f"{cell(part['mean']['ap'])} | {cell(part['centres']['ap'])} | {cell(part['baseline']['ap'])} | "
            f"{pooled['splits']} | {pooled['merges']} | {pooled['ap'] - other['pooled']['ap']:+.6f} |"
        )
    thresholds = tiled["ap_by_iou"]
    lines += [
        "",
        f"F1 {cell(tiled['pooled']['f1'])}, PQ {cell(tiled['pooled']['pq'])}, SBD {cell(tiled['pooled']['sbd'])} "
        "(pooled, IoU 0.5). AP pooled at other thresholds:",
        "",
        "| IoU | " + " | ".join(thresholds) + " |",
        "|---|" + "---|" * len(thresholds),
        "| AP | " + " | ".join(cell(value) for value in thresholds.values()) + " |",
        "",
    ]
    return lines


def independence() -> list[str]:
    """What the tile size changes."""
    found = load("tile_independence")
    rows = found["rows"]
    images = {row["image"] for row in rows}
    tiles = sorted({row["tile"] for row in rows})
    return [
        "## Labels do not depend on the tile size",
        "",
        "`python benchmarks/tile_independence.py data/dsb2018_fluo --out docs/measurements/tile_independence.json` "
        f"({found['date']}, {found['machine']}): {len(images)} validation images at tile sizes "
        f"{', '.join(map(str, tiles))} px, each against one pass over the whole image.",
        "",
        "| measure | found |",
        "|---|---|",
        f"| largest difference of an embedding, px | {found['largest_embedding_difference']:.1e} |",
        f"| pixels labelled otherwise | {found['pixels_decided_otherwise']} of {found['pixels']:,} |",
        f"| the same with `deterministic=True` | {found['pixels_decided_otherwise_deterministic']} |",
        f"| runs with another number of instances | {found['instance_counts_that_differ']} of {len(rows)} |",
        f"| largest difference of AP | {found['largest_ap_difference']:.6f} |",
        "",
    ]


def main() -> None:
    page = [
        "# Results",
        "",
        "Written by `benchmarks/results_page.py` from the files in `docs/measurements`; no number here was typed by hand.",
        "",
        "## Accuracy of the bundled model",
        "",
        "AP is TP / (TP + FP + FN) at an IoU of 0.5. *True centres*: foreground pixels go to the nearest true mean "
        "embedding, which tells errors of the network from errors of the clustering. *Otsu + watershed* is the "
        "baseline without a network. The field's figures on 2018 Data Science Bowl images, on other splits, are 0.835 "
        "(StarDist example notebook, IoU 0.5) and 0.887 (EmbedSeg notebook); a ranking would need equal splits.",
        "",
        "The clustering was calibrated on training images, but its starting point was picked while a quarter of the "
        "validation images was watched ([Models](models.md)), so these figures may be slightly too good.",
        "",
    ]
    for name in SETS:
        page += accuracy(name)
    page += independence()
    page += [
        "## The paper's figures",
        "",
        "Each figure of Rumberger et al. 2021 as an experiment with an expected outcome, in full size where it was run, "
        "else in quick size. [The paper's figures](paper.md) shows every run and how the setups came about.",
        "",
        *paper_page.overview(paper_page.load(), EXPERIMENTS),
    ]
    (DOCS / "results.md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
