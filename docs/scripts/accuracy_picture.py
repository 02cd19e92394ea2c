"""Draw docs/images/accuracy.svg: AP against the processor time of the training, and against that of a megapixel.

    python docs/scripts/accuracy_picture.py [--out FILE]

The points are the rows of docs/measurements/accuracy_*.json that are of all their data; a line joins the same training at
several times. A method whose training took no time that is known has a point in the second diagram alone.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
COLOURS = {"ours": "#2563eb", "stardist": "#dc2626", "cellpose": "#059669", "otsu": "#737373"}
WIDTH, HEIGHT, LEFT, TOP, GAP, LEGEND = 330, 280, 50, 30, 60, 260  # px
PANELS = (
    ("trained_seconds", "processor time of the training, s"),
    ("seconds_per_megapixel", "processor time of a megapixel, s"),
)


def rows(folder: Path) -> list[dict[str, Any]]:
    """Of each measurement the rows of all its data, with its name."""
    found = []
    for path in sorted(folder.glob("accuracy_*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))["rows"]
        data = {row["data"] for row in measured}
        about = path.stem.removeprefix("accuracy_")
        found += [{**row, "about": about} for row in measured if row["data"] == "all" or len(data) == 1]
    return found


def spans(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten around values."""
    low = 10 ** math.floor(math.log10(min(values)))
    return low, max(10 * low, 10 ** math.ceil(math.log10(max(values))))


def panel(number: int, key: str, title: str, shown: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One diagram, the first at the left: AP from 0 to 1 over a logarithmic axis."""
    left = LEFT + number * (WIDTH + GAP)
    low, high = spans([row[key] for row in shown])

    def at(value: float, ap: float) -> tuple[float, float]:
        part = math.log(value / low) / math.log(high / low)
        return round(left + part * WIDTH, 1), round(TOP + (1 - ap) * HEIGHT, 1)

    for step in range(6):
        y = at(low, step / 5)[1]
        yield f'<path d="M{left} {y}h{WIDTH}" stroke="#d4d4d4"/>'
        yield f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{step / 5:.1f}</text>'
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = at(10.0**power, 0)[0]
        yield f'<text x="{x}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{10.0**power:g}</text>'
    yield f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{title}</text>'
    yield f'<text x="{left}" y="{TOP - 10}">AP@0.5</text>'
    yield from _points(shown, key, at)


def _points(shown: Sequence[dict[str, Any]], key: str, at: Any) -> Iterator[str]:
    for about, title in named(shown):
        same = sorted((row for row in shown if (row["about"], row["title"]) == (about, title)), key=lambda row: row[key])
        if key != "trained_seconds":  # the end of the training
            same = [max(same, key=lambda row: row.get("trained_seconds") or 0)]
        places = [at(row[key], row["ap50"]) for row in same]
        if len(places) > 1:
            path = " L".join(f"{x} {y}" for x, y in places)
            yield f'<path d="M{path}" stroke="{COLOURS[same[0]["peer"]]}" fill="none"/>'
        yield from (mark(x, y, same[0]) for x, y in places)


def named(every: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """What is drawn: measurements and methods."""
    return list(dict.fromkeys((row["about"], row["title"]) for row in every))


def mark(x: float, y: float, row: dict[str, Any]) -> str:
    """A point: full for nuclei in fluorescence, hollow for all else."""
    colour = COLOURS[row["peer"]]
    return f'<circle cx="{x}" cy="{y}" r="4" stroke="{colour}" fill="{colour if row["about"] == "nuclei" else "white"}"/>'


def legend(every: Sequence[dict[str, Any]], left: int) -> Iterator[str]:
    """Names beside the diagrams."""
    for number, (about, title) in enumerate(named(every)):
        row = next(row for row in every if (row["about"], row["title"]) == (about, title))
        y = TOP + 10 + 18 * number
        yield f'{mark(left, y, row)}<text x="{left + 10}" y="{y + 4}">{title} ({about})</text>'


def picture(folder: Path) -> str:
    """The whole file."""
    every = rows(folder)
    shown = [(key, title, [row for row in every if row.get(key)]) for key, title in PANELS]
    shown = [one for one in shown if one[2]]
    right = LEFT + len(shown) * (WIDTH + GAP)
    width, height = right + LEGEND, TOP + HEIGHT + 44
    body = [line for number, one in enumerate(shown) for line in panel(number, *one)] + list(legend(every, right))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="12">', ground, *body, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS / "images" / "accuracy.svg")
    wishes = parser.parse_args()
    wishes.out.write_text(picture(DOCS / "measurements"), encoding="utf-8")


if __name__ == "__main__":
    main()
