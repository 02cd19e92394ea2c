"""Write docs/paper.md from the measurement files docs/measurements/paper_*.json.

    python benchmarks/paper_page.py

The measurement files hold findings of `shiftseg paper FIGURE ... --seed 0 1 2 --json` from several runs, merged; the page says
what was changed on the way.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
HIDDEN = {"wanted", "pixels", "capacity", "tolerance", "shifts", "edge", "reach", "counts", "exact"}

INTRODUCTION = """\
Each figure of Rumberger et al. 2021 is a declared experiment: a recipe for the image, a network, a training, a measure and
an expected outcome. `shiftseg paper` lists them; `shiftseg paper fig3b fig3c --seed 0 1` runs two of them, `--full` in the
paper's size (hours on a CPU; `--out FOLDER` keeps the trainings, so that they can go on). The command exits with 3 when an
expectation is not met. What is not met stays in the tables.

The *quick* size has shallower, narrower networks (period 4 or 8 in place of 8 or 16) and disks that fit them, and trains for
one or two minutes, so it tests the claims and does not redraw the pictures. A *code* is a group of mean embeddings that steps
of at most 0.5 connect (the loss wants 6 between instances), or, without training, of outputs that are equal to 1 in 10¹⁰. A
disk on a seam is *split* when its halves within 4 px of the seam are more than 1.5 apart; *share* is the part of the crossing
disks that is. *Ratio* is the mean jump of the embedding at seams over that at lines a period away (`seam_report`); for `fig3a`
and `fig3a-window` it is the mean jump inside disks at the period grid over that at all other lines of one pass.

## How the quick setups came about

The quick setups were not all fixed before their first run, so a "yes" below is weaker evidence than a prediction:

- The conditions on the share of split disks in `fig3b` and `fig3c` were added after seed 0 had been seen. No verdict changed.
  seed 0, not on seed 1), w = 20 with the same disks (met on no seed), and w = 20 with disks 12 px apart, the present `fig3b`.
  The first two stay in the table as `fig3b-9px-*`. In the present one every disk on a seam is split on both seeds, but the
  interval of the seam ratio includes 1, so the expectation fails. The same wide intervals make "no seam exposed" of `fig3c`
  weak evidence; its share of split disks is the stronger one.
- The conditions on the share of split disks in `fig3b` and `fig3c` were added after seed 0 had been seen. No verdict changed.
- Results of `fig3c` and `fig3a-window` for the two earlier setups are not shown: with w = 12 both were met on both seeds, with
  w = 20 on seed 0; seed 1 was not looked at.
- `fig4` went from 3 features to 8 after 3 features had given a single code on seed 0.
- A training takes the first of 16 initialisations that is not dead.
- The findings were merged from several runs by code that is not kept; it renamed the `fig3b-9px-*` rows and computed
  `expected` and `met` anew with the later conditions. Measured values were not touched.
- Times were taken beside other work; trainings that were shared or resumed show as nearly 0 s.
- `fig2c`, `fig6-noise` and `fig7a` ran on one seed only. No trained figure has been run at the paper's size yet.
"""


def load() -> list[dict[str, Any]]:
    """All findings, each with the date and the machine of its file."""
    found = []
    for path in sorted((DOCS / "measurements").glob("paper_*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        found += [{**row, "date": document["date"], "machine": document["machine"]} for row in document["findings"]]
    return found


def text(value: Any) -> str:
    """A measured value for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "undecided"}[value]
    if isinstance(value, list):
        return " to ".join(map(text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def measured(row: dict[str, Any]) -> str:
    """What was found, without what the expectation says already."""
    return ", ".join(f"{name.replace('_', ' ')} {text(value)}" for name, value in row["measured"].items() if name not in HIDDEN)


def section(size: str, found: list[dict[str, Any]], order: list[str]) -> list[str]:
    """Table of one size: a row per experiment and seed."""
    rows = sorted((row for row in found if row["size"] == size), key=lambda row: (order.index(row["name"]), row["seed"]))
    if not rows:
        return []
    met = sum(row["met"] for row in rows)
    machines = "; ".join(sorted({f"{row['date']}, {row['machine']}" for row in rows}))
    lines = [
        f"## Size: {size}",
        "",
        f"{met} of {len(rows)} runs met their expectation ({machines}).",
        "",
        "| experiment | seed | expected | measured | met | s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "yes" if row["met"] else "**no**"
        lines.append(
            f"| `{row['name']}` | {row['seed']} | {row['expected']} | {measured(row)} | {verdict} | {row['seconds']:.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    from napari_shiftseg.paper import EXPERIMENTS

    found, order = load(), list(EXPERIMENTS)
    page = [
        "# The paper's figures",
        "",
        "Written by `benchmarks/paper_page.py`; the numbers in its tables come from the files in `docs/measurements`.",
        "",
        INTRODUCTION,
        "| experiment | paper | claim |",
        "|---|---|---|",
        *(f"| `{name}` | {one.source} | {one.claim} |" for name, one in EXPERIMENTS.items()),
        "",
    ]
    missing = [name for name in order if not any(row["name"] == name for row in found)]
    for size in ("quick", "full"):
        page += section(size, found, order)
    if missing:
        page += ["Not measured yet: " + ", ".join(f"`{name}`" for name in missing) + ".", ""]
    (DOCS / "paper.md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
