"""Sections of docs/performance.md about streams and about the parts of the tile path, from their measurement files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

FLAT, OF_WHOLE = 1.1, 0.1


def streaming(document: Document) -> list[str]:
    """Whole image against stream, and streams over images of growing height."""
    lines = [
        "## Streaming",
        "",
        "A stream goes down the first axis in strips and computes no row of any layer twice. *Over whole*: seconds over those "
        "of one pass of the whole image, median of turns; *processor*: the same of processor time. *Difference*: the largest, "
        "relative to the largest value of the whole image. *Operations*: over those of the same pixels in an infinitely large "
        "image. *Peak* and *kept*: memory above the start, and what is held from strip to strip. In bold what is taken unless "
        "another strip is asked for.",
        "",
        "| | strip, rows | s | over whole | processor | difference | operations | peak, MB | kept, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document["cases"]:
        strip = "whole image" if row["strip"] is None else f"**{row['strip']}**" if row["chosen"] else str(row["strip"])
        kept = "-" if row["state"] is None else f"{row['state'] / 1e6:.1f}"
        lines.append(
            f"| {row['case']} | {strip} | {row['seconds']:.3g} | {row['ratio']:.2f} | {row['cpu_ratio']:.2f} | "
            f"{row['difference']:.1e} | {row['flops']:.3f} | {row['peak_memory'] / 1e6:.0f} | {kept} |"
        )
    lines += ["", *differences(document["cases"])]
    if tall := document["tall"]:
        lines += [f"Images {tall[0]['width']} px wide, made row by row when they are read, their result thrown away:", ""]
        lines += ["| rows | s | 10^6 px/s | peak, MB |", "|---|---|---|---|"]
        for row in tall:
            speed, peak = row["megapixels_per_second"], row["peak_memory"] / 1e6
            lines.append(f"| {row['rows']:,} | {row['seconds']:.3g} | {speed:.2f} | {peak:.0f} |")
        lines.append("")
    return lines


def differences(rows: list[Document]) -> list[str]:
    """Which cases give the bits of the whole image."""
    said = []
    for case in dict.fromkeys(row["case"] for row in rows):
        found = [row["difference"] for row in rows if row["case"] == case and row["strip"] is not None]
        equal = sum(value == 0 for value in found)
        words = "bit for bit the whole image" if equal == len(found) else f"{equal} of {len(found)} strips bit for bit"
        said.append(f"{case}: {words}" + (f", at most {max(found):.1e} off" if equal < len(found) else ""))
    return [f"{'; '.join(said)}.", ""] if said else []


def streaming_targets(document: Document) -> Iterator[tuple[str, str, str, bool, str]]:
    """Memory that does not see the image."""
    tall = sorted(document["tall"], key=lambda row: row["rows"])
    if len(tall) > 1:
        first, last = tall[0], tall[-1]
        grown = max(row["peak_memory"] for row in tall) / min(row["peak_memory"] for row in tall)
        text = f"stream: largest over smallest peak memory, {first['rows']:,} to {last['rows']:,} rows"
        peaks = ", ".join(f"{row['peak_memory'] / 1e6:.0f}" for row in tall)
        yield text, f"at most {FLAT:g}", f"{grown:.2f}", grown <= FLAT, f"peaks of {peaks} MB"
    for case in dict.fromkeys(row["case"] for row in document["cases"]):
        rows = [row for row in document["cases"] if row["case"] == case]
        whole = next((row for row in rows if row["strip"] is None), None)
        mine = next((row for row in rows if row["chosen"] and row["strip"] is not None), None)
        if whole and mine and case.startswith("plane"):
            share = mine["peak_memory"] / whole["peak_memory"]
            why = f"{mine['peak_memory'] / 1e6:.0f} of {whole['peak_memory'] / 1e6:.0f} MB, with the result"
            text = f"stream: peak memory over that of the whole image, {case}"
            yield text, f"at most {100 * OF_WHOLE:.0f} %", f"{100 * share:.0f} %", share <= OF_WHOLE, why


def tile_path(document: Document) -> list[str]:
    """Each part in both ways."""
    lines = [
        "## The way of a tile",
        "",
        "What each part of the tile loop is worth: both ways in turns; medians, the ratio to the first way, and the largest "
        "difference to its result, relative to its largest value.",
        "",
        "| part | of | way | s | ratio | difference |",
        "|---|---|---|---|---|---|",
    ]
    alone = []
    for row in document["rows"]:
        ways = {name: value for name, value in row.items() if isinstance(value, dict)}
        facts = ", ".join(f"{words(name)} {plain(value)}" for name, value in row.items() if name != "part" and name not in ways)
        if not ways:
            alone.append(f"{row['part']}: {facts}.")
        for name, way in ways.items():
            difference = f"{way['difference']:.1e}"
            lines.append(f"| {row['part']} | {facts} | {name} | {way['seconds']:.3g} | {way['ratio']:.2f} | {difference} |")
    return [*lines, "", *(line for text in alone for line in (text, ""))]


def compiled(document: Document) -> list[str]:
    """Passes of a tile by PyTorch's compiler, and as CUDA graphs where that was measured."""
    lines = [
        "## Compiled passes",
        "",
        "One pass over a tile, in turns: the form that runs, and the same layers given to a compiler. A ratio below 1 is "
        "faster than ours. *Warm-up* is paid once per kind of tile: four kinds in most images. *Difference*: to ours, over its "
        "largest value. The last column: tiles of a kind after which what is saved has paid for the warm-up.",
        "",
        "| features | number format | tile, px | way | ms | ratio | warm-up, s | difference | tiles until it pays |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours: dict[tuple[Any, ...], float] = {}
    for row in document["rows"]:
        case = row["features"], row["dtype"], row["tile"]
        first = ours.setdefault(case, row["seconds"])
        saved = first - row["seconds"]
        pays = "-" if row["way"] == "ours" else f"{row['warm_up'] / saved:,.0f}" if saved > 0 else "never"
        lines.append(
            f"| {' | '.join(map(str, case))} | {row['way']} | {1000 * row['seconds']:.3g} | {row['ratio']:.2f} | "
            f"{row['warm_up']:.2g} | {row['difference']:.1e} | {pays} |"
        )
    if images := document.get("images"):
        lines += [
            "",
            "Whole 2D images from main memory to main memory: PyTorch with what it takes unless told otherwise (tiles or "
            "stream), and `--device openvino` with the tiles that it takes then, and with larger ones. *First*: the first "
            "image, for which the network is compiled.",
            "",
            "| features | number format | image | way | s | ratio | first, s | difference |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['features']} | {row['dtype']} | {row['edge']} x {row['edge']} px | {row['way']} | {row['seconds']:.3g} | "
            f"{row['ratio']:.2f} | {row['first']:.3g} | {row['difference']:.1e} |"
            for row in images
        ]
    return [*lines, ""]


def large_pages(document: Document) -> list[str]:
    """Passes with and without large pages of memory."""
    lines = [
        "## Large pages",
        "",
        "PyTorch takes the memory of a large map anew from the system for each tile; importing this package asks for pages of "
        "2 MB instead of 4 kB where Linux has them (`THP_MEM_ALLOC_ENABLE`, unless it is set already). Networks of 3 poolings, "
        f"medians over processes in turns ({document['turns']} each).",
        "",
        "| | features | image | s, small pages | s, large pages | ratio | page faults | with large pages | memory, MB | "
        "with large pages |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['features']} | {row['edge']} x {row['edge']} px | {row['small_seconds']:.3g} | "
        f"{row['large_seconds']:.3g} | {row['ratio']:.2f} | {row['small_faults']:,.0f} | {row['large_faults']:,.0f} | "
        f"{row['small_memory'] / 1e6:.0f} | {row['large_memory'] / 1e6:.0f} |"
        for row in document["rows"]
    ]
    return [*lines, ""]


def plain(value: Any) -> str:
    """A value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " and ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def words(name: str) -> str:
    return name.replace("_", " ")
