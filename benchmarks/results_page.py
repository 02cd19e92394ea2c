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
CURVE = "images/paper/tile-size-curve.svg"


def load(folder: Path, name: str) -> dict[str, Any]:
    """One measurement file."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def commit(folder: Path, *names: str) -> str:
    """The commit, or the commits, that measurements stand with."""
    index = load(folder, "measured")
    found = list(dict.fromkeys(index[name]["commit"][:9] for name in names))
    return f"commit{'s' * (len(found) > 1)} {' and '.join(found)}"


def cell(value: float | None) -> str:
    """A score for people."""
    return "-" if value is None else f"{value:.3f}"


def accuracy(folder: Path, name: str) -> list[str]:
    """Table of one data set: tiled, and against one pass over each whole image."""
    title, data, by = SETS[name]
    tiled, whole = load(folder, f"nuclei_{name}"), load(folder, f"nuclei_{name}_whole")
    lines = [
        f"### {title}",
        "",
        f"`shiftseg evaluate {data} --split val --by {by} --baseline --tile 96 --json` and the same with `--whole` "
        f"({commit(folder, f'nuclei_{name}', f'nuclei_{name}_whole')}).",
        "",
        "| images | objects | AP@0.5 pooled | mean over images | true centres | Otsu + watershed | missed | extra | splits |"
        " merges | AP tiled - AP whole |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups = {"all": (tiled, whole)} | {
        key: (part, whole["by"][key]) for key, part in tiled["by"].items() if len(tiled["by"]) > 1
    }
    for key, (part, other) in groups.items():
        pooled = part["pooled"]
        lines.append(
            f"| {key} ({part['mean']['images']}) | {pooled['tp'] + pooled['fn']} | **{cell(pooled['ap'])}** | "
            f"{cell(part['mean']['ap'])} | {cell(part['centres']['ap'])} | {cell(part['baseline']['ap'])} | "
            f"{part_of(pooled, 'fn', 'unlabelled')} | {part_of(pooled, 'fp', 'invented')} | {pooled['splits']} | "
            f"{pooled['merges']} | {pooled['ap'] - other['pooled']['ap']:+.6f} |"
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


def part_of(pooled: dict[str, Any], name: str, part: str) -> str:
    """A count, and in brackets a part of it where it was counted."""
    return f"{pooled[name]} ({pooled[part]})" if part in pooled else f"{pooled[name]}"


def independence(folder: Path) -> list[str]:
    """What the tile size changes."""
    found = load(folder, "tile_independence")
    rows = found["rows"]
    images = {row["image"] for row in rows}
    tiles = sorted({row["tile"] for row in rows})
    return [
        "## Labels do not depend on the tile size",
        "",
        "`python benchmarks/tile_independence.py data/dsb2018_fluo --out docs/measurements/tile_independence.json` "
        f"({found['date']}, {found['machine']}, {commit(folder, 'tile_independence')}): {len(images)} validation images at "
        f"tile sizes {', '.join(map(str, tiles))} px, each against one pass over the whole image.",
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


def false_splits(folder: Path) -> list[str]:
    """What tiles off the lattice change, over a data set."""
    found = load(folder, "tile_size_curve")
    data, machine, once = found["data"], found["machine"], found["one_pass"]
    images = (
        f"{data['images']} validation images" if "--images" in found["command"] else f"all {data['images']} validation images"
    )
    lines = [
        "## False splits against tile size",
        "",
        f"`{found['command']}` ({found['date']}, {machine['platform']}, {machine['threads']} of {machine['cpus']} cores, torch "
        f"{machine['torch']}, {commit(folder, 'tile_size_curve')}): {images} of the 2018 Data Science Bowl's "
        "fluorescence images, on which the model was not "
        f"trained, with {found['nuclei']:,} nuclei. Each is segmented in one pass and by tiles of each edge: multiples of the "
        f"period of {found['model']['period']} px, and others, which run only with `allow_noncompliant=True`.",
        "",
        "*Otherwise*: pixels that the one pass labels otherwise, whatever the numbers of its instances; in how many images and "
        f"instances (of {found['instances']:,}) they lie, and how many of these are split and merged. *On seams*: true nuclei "
        "across a seam; how many of them are split, and in brackets how many of the same ones the one pass splits. "
        f"*Newly split*: true nuclei that the one pass leaves whole; it splits {once['splits']}. AP is pooled over all nuclei.",
        "",
        "| tile edge, px | otherwise, px | images | instances | split | merged | on seams | split there | newly split |"
        " AP@0.5 | AP@0.5:0.95 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| one pass | | | | | | | | | {once['ap50']:.4f} | {once['ap50_95']:.4f} |",
    ]
    for row in found["rows"]:
        edge = f"**{row['edge']}**" if row["legal"] else f"{row['edge']}, off the lattice"
        lines.append(
            f"| {edge} | {row['changed_pixels']:,} | {row['changed_images']} | {row['changed_instances']} | "
            f"{row['split_instances']} | {row['merged_instances']} | {row['crossing']} | {row['split_at_seams']} "
            f"({row['split_at_seams_in_one_pass']}) | {row['splits_added']} | {row['ap50']:.4f} | {row['ap50_95']:.4f} |"
        )
    if (DOCS / CURVE).exists():
        lines += ["", f"![Split instances and AP against the tile edge]({CURVE})"]
    source = f"{data['title']}, {data['licence']}. {data['citation']}."
    off = [row for row in found["rows"] if not row["legal"]]
    return [*lines, "", near_and_far(off, found["nuclei"]), "", source, ""]


def near_and_far(rows: list[dict[str, Any]], nuclei: int) -> str:
    """Where the changed pixels of tiles off the lattice lie."""
    near = [100 * row["changed_near_seams"] / row["object_pixels_near_seams"] for row in rows]
    far = [
        100 * (row["changed_pixels"] - row["changed_near_seams"]) / (row["object_pixels"] - row["object_pixels_near_seams"])
        for row in rows
    ]
    at_seams, splits, crossing = (
        sum(row[name] for row in rows) for name in ("split_instances_at_seams", "split_instances", "crossing")
    )
    return (
        "Off the lattice it is not the borders of tiles alone that change: nearly every tile lies on another phase of the "
        f"period as a whole. Of the pixels of instances within 4 px of a seam, {min(near):.1f} to {max(near):.1f} % are "
        f"labelled otherwise, of the others {min(far):.1f} to {max(far):.1f} %. Over all these edges {at_seams} of {splits} "
        f"splits are of instances across a seam; so are {100 * crossing / (nuclei * len(rows)):.0f} % of the true nuclei. "
        "AP hardly moves, up or down. This model adds an offset to the place of a pixel, and the place does not depend on "
        "tiles; that is a likely reason why so few nuclei break. The free codes of the paper's figures below have no such help."
    )


def page(folder: Path) -> str:
    """The page, from the measurement files of a folder."""
    lines = [
        "# Results",
        "",
        "Written by `benchmarks/results_page.py` from the files in `docs/measurements`; no number here was typed by hand.",
        "",
        "## Accuracy of the bundled model",
        "",
        "AP is TP / (TP + FP + FN) at an IoU of 0.5. *True centres*: foreground pixels go to the nearest true mean "
        "embedding, which tells errors of the network from errors of the clustering. *Missed*: true nuclei that nothing "
        "matches, in brackets those without any label; *extra*: found ones that match nothing, in brackets those that lie on "
        "no true nucleus. *Otsu + watershed* is the baseline without a network. The field's figures on 2018 Data Science Bowl "
        "images, on other splits, are 0.835 "
        "(StarDist example notebook, IoU 0.5) and 0.887 (EmbedSeg notebook); a ranking would need equal splits.",
        "",
        "The clustering was calibrated on training images, but its starting point was picked while a quarter of the "
        "validation images was watched ([Models](models.md)), so these figures may be slightly too good.",
        "",
    ]
    for name in SETS:
        lines += accuracy(folder, name)
    lines += independence(folder)
    lines += false_splits(folder)
    lines += [
        "## The paper's figures",
        "",
        "Each figure of Rumberger et al. 2021 as an experiment with an expected outcome, in full size where it was run, "
        f"else in quick size ({commit(folder, 'paper_quick', 'paper_full')}). [The paper's figures](paper.md) "
        "shows every run and how the setups came about.",
        "",
        *paper_page.overview(paper_page.load(folder), EXPERIMENTS),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    (DOCS / "results.md").write_text(page(DOCS / "measurements"), encoding="utf-8")


if __name__ == "__main__":
    main()
