"""Write docs/performance.md from the measurement files in docs/measurements.

    python benchmarks/performance_page.py

A section whose file is absent is left out. The commands that made the files stand in the page itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clustering_page
import parts_page
import peers_page
from parts_page import plain

DOCS = Path(__file__).resolve().parent.parent / "docs"
Document = dict[str, Any]
Target = tuple[str, str, str, bool | None, str]

# Poolings and features of the network that images of all sizes were segmented with.
SMALLEST = [2, 8]

# Further runs of the peers, and what sets them apart.
MORE_PEERS = {"peers_sizes": "other sizes", "peers_large": "larger images", "peers_volumes": "larger volumes"}

INTRODUCTION = """\
Written by `benchmarks/performance_page.py` from the files in `docs/measurements`; no number here was typed by hand, and what
missed its target stays. Seconds belong to the machine that is named beside them, ratios carry further. A faster wrong answer
does not count, so each speed stands next to the difference from the whole image in one pass.
"""


NO_GPU = """\
No GPU was at hand for any of these measurements, so two goals have no row: on one H200, from disk to labels, 3.1 s per 10^9
pixels (2D, 4 poolings, 64 features, bfloat16) and 0.92 s per 10^9 voxels (3D, 3 poolings, 32 features)."""


def main() -> None:
    (DOCS / "performance.md").write_text(page(DOCS / "measurements"), encoding="utf-8")


def page(folder: Path) -> str:
    """The page, from the measurement files of a folder."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    for name, entry in found.pop("measured", {}).items():  # the commit that each stands with
        if isinstance(found.get(name), dict):
            found[name]["commit"] = entry["commit"]
    lines = ["# Performance", "", INTRODUCTION]
    lines += target_table(list(targets(found)))
    if not any("CUDA" in str(one.get("machine", "")) for one in found.values() if isinstance(one, dict)):
        lines += [NO_GPU, ""]
    if peers := found.get("peers"):
        lines += [*peers_page.sections(peers), said(peers, "peers"), ""]
    for name, title in MORE_PEERS.items():
        if more := found.get(name):
            lines += [*peers_page.more_images(more, title), said(more, name), ""]
    if peers:
        lines += peers_page.odd_image(peers)
    for name, write in SECTIONS.items():
        if name in found:
            lines += write(found[name])
    return "\n".join(lines).rstrip() + "\n"


def said(document: Document, name: str) -> str:
    """Where the figures come from: command, date, machine, versions."""
    machine = document.get("machine", {})
    words = machine if isinstance(machine, str) else ", ".join(f"{key} {plain(value)}" for key, value in machine.items())
    parts = [f"`{document['command']}`" if "command" in document else f"`benchmarks/{name}.py`", document.get("date"), words]
    parts += [f"commit {document['commit'][:9]}"] if "commit" in document else []
    if versions := document.get("versions"):
        parts.append(", ".join(f"{key} {value}" for key, value in versions.items() if value is not None))
    link = f"[numbers](measurements/{name}.json)"
    return f"{'; '.join(part for part in parts if part)} ({link})."


# -- targets ---------------------------------------------------------------------------------------------------------------


def targets(found: dict[str, Document]) -> Iterator[Target]:
    """All goals that a file has an answer to."""
    for name in ("peers", *MORE_PEERS):
        if name in found:
            yield from peers_page.targets(found[name], large_only=name in MORE_PEERS)
    if "limits" in found:
        yield from limit_targets(found["limits"])
    if "streaming" in found:
        yield from parts_page.streaming_targets(found["streaming"])
    if "clustering" in found:
        yield from clustering_page.targets(found["clustering"])
    if "join_scaling" in found:
        yield from join_targets(found["join_scaling"])
    if "large_images" in found:
        yield from large_targets(found["large_images"]["rows"])


def limit_targets(document: Document) -> Iterator[Target]:
    for row in document["plans"]:
        if row["goal"] is not None and row["chosen"]:
            where = f"{network(row)}, {peers_page.image(row['ndim'], row['edge'])}, {row['memory'] / 2**30:g} GiB"
            text = f"operations over the ideal: {where}"
            others = [one for one in document["plans"] if key(one) == key(row) and not one["chosen"]]
            why = f"{row['method']}: {row['plan']}" + "".join(f"; {one['method']}: {one['over_ideal']:.3f}" for one in others)
            yield text, f"at most {row['goal']:g}", f"{row['over_ideal']:.3f}", row["over_ideal"] <= row["goal"], why


def key(row: Document) -> tuple[int, ...]:
    return row["ndim"], row["levels"], row["features"], row["edge"], row["memory"]


def target_table(rows: list[Target]) -> list[str]:
    if not rows:
        return []
    met = sum(row[3] is True for row in rows)
    lines = [
        "## Targets",
        "",
        f"{met} of {len(rows)} are met.",
        "",
        "| | target | measured | | why |",
        "|---|---|---|---|---|",
    ]
    for text, target, measured, ok, why in rows:
        lines.append(f"| {text} | {target} | {measured} | {'met' if ok else '**missed**'} | {why} |")
    return [*lines, ""]


def network(row: Document) -> str:
    return f"{row['ndim']}D, {row['levels']} poolings, {row['features']} features"


# -- sections --------------------------------------------------------------------------------------------------------------


def limits(document: Document) -> list[str]:
    """Cost of networks, plans over the ideal, and the floor of the device."""
    rates = document["rates"]
    matrix = ", ".join(f"{dtype} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in rates["matrix"].items())
    lines = [
        "## Limits",
        "",
        "What a network costs per output pixel of a large image (8 embedding channels): operations, and bytes if each layer "
        "reads and writes its maps once; in brackets without the copies that join skip and upsampled map. *Floor*: operations "
        "over the matrix rate or bytes (without the copies) over the bandwidth, whichever is longer, on this device "
        f"(measured: memory {rates['bandwidth'] / 1e9:.1f} GB/s, {matrix}). `shiftseg info --model NAME` says the same of a "
        "model.",
        "",
        "| network | MFLOP/px | bytes, bfloat16 | floor, s per 10^9 px: float32 | set by | bfloat16 | set by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in document["networks"]:
        half, full = row["bfloat16"], row["float32"]
        lines.append(
            f"| {network(row)} | {row['flops'] / 1e6:.3f} | {half['bytes']:.0f} ({half['bytes_joined']:.0f}) | "
            f"{1e9 * full['floor']:.3g} | {full['bound']} | {1e9 * half['floor']:.3g} | {half['bound']} |"
        )
    lines += [
        "",
        "Operations of whole plans over those of the same pixels in an infinitely large image:",
        "",
        "| network | image | memory | | over the ideal | plan |",
        "|---|---|---|---|---|---|",
    ]
    for row in document["plans"]:
        name = f"**{row['method']}**" if row["chosen"] else row["method"]
        lines.append(
            f"| {network(row)} | {peers_page.image(row['ndim'], row['edge'])} | {row['memory'] / 2**30:g} GiB | {name} | "
            f"{row['over_ideal']:.3f} | {row['plan']} |"
        )
    lines += ["", counted_sentence(document["counted"]), "", *reached(document["reached"]), said(document, "limits"), ""]
    return lines


def counted_sentence(rows: list[Document]) -> str:
    equal = sum(row["counted"] == row["planned"] for row in rows)
    worst = max(abs(row["counted"] / row["planned"] - 1) for row in rows)
    words = "These are formulas; "
    if equal == len(rows):
        return words + f"PyTorch's counter over real runs of {len(rows)} small plans gave exactly theirs."
    return words + f"PyTorch's counter gave exactly theirs in {equal} of {len(rows)} small plans, and {worst:.1e} off at most."


def reached(rows: list[Document]) -> list[str]:
    if not rows:
        return []
    lines = [
        "What one tile reaches, from pixels in main memory to an embedding there:",
        "",
        "| network | tile, px | format | s | of the matrix rate | of the floor | floor set by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {network(row)} | {row['tile']} | {row['dtype']} | {row['seconds']:.3g} | "
            f"{100 * row['share_of_matrix_rate']:.0f} % | {100 * row['share_of_floor']:.0f} % | {row['bound']} |"
        )
    over = [row for row in rows if row["share_of_floor"] > 1]
    more = "Maps of a tile can stay in a cache, so a floor that memory sets can be passed." if over else ""
    return [*lines, "", *([more, ""] if more else [])]


def large(document: Document) -> list[str]:
    """Images that do not fit the memory, from disk to disk."""
    rows = document["rows"]
    lines = [
        "## Larger than memory",
        "",
        "From an image that is read chunk by chunk to labels on disk ([Larger than memory](large.md)).",
        "",
        "| image | poolings, features | workers | s | s per 10^6 px | peak memory, MB | stated, MB | allowed, MB | stages, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        stages = ", ".join(f"{name} {value:g}" for name, value in row["stages"].items())
        alone = ", one stage after the other" if row.get("alone") else ""
        workers = "-" if row.get("workers", -1) < 0 else str(row["workers"])
        lines.append(
            f"| {peers_page.image(row['ndim'], row['edge'])}{alone} | {row['network'][0]}, {row['network'][1]} | {workers} | "
            f"{row['seconds']:g} | {row['seconds_per_megapixel']:g} | {row['peak_memory'] / 1e6:.0f} | "
            f"{row['stated_memory'] / 1e6:.0f} | {row['memory'] / 1e6:.0f} | {stages} |"
        )
    flat = [row for row in rows if row["ndim"] == 2 and row.get("workers", -1) < 0 and not row.get("alone")]
    if flat:
        most = Counter(row["memory"] for row in flat).most_common(1)[0][0]
        flat = sorted(
            (row for row in flat if row["memory"] == most and row["network"] == SMALLEST), key=lambda row: row["edge"]
        )
    words = growth(flat[0], flat[-1]) if len({row["edge"] for row in flat}) > 1 else ""
    sources = [document] if "command" in document else rows
    texts = dict.fromkeys(said({key: row[key] for key in ("command", "date", "machine")}, "large_images") for row in sources)
    return [*lines, "", *([words, ""] if words else []), *texts, ""]


def large_targets(rows: list[Document]) -> Iterator[Target]:
    plain_runs = [row for row in rows if row["ndim"] == 2 and row.get("workers", -1) < 0 and not row.get("alone")]
    for big in (row for row in plain_runs if row["edge"] == 20_000):
        levels, features = big["network"]
        allowed = f"{big['memory'] / 1e9:g} GB allowed, {levels} poolings, {features} features"
        peak = big["peak_memory"] / 1e9
        name = f"20,000 x 20,000 px from disk to disk, two cores, {allowed}"
        yield (
            name,
            "peak memory < 2 GB",
            f"{peak:.2f} GB",
            peak < 2,
            f"stated before the run: {big['stated_memory'] / 1e9:.2f} GB",
        )
        same = [row for row in plain_runs if (row["memory"], row["network"]) == (big["memory"], big["network"])]
        for small in (row for row in same if row["edge"] == 5000):
            ratio = big["peak_memory"] / small["peak_memory"]
            count = -(-5000 // small["block"][0])
            reason = f"5,000 px are {count} x {count} blocks of {small['block'][0]} px, {small['peak_memory'] / 1e9:.2f} GB"
            yield (
                f"memory from 5,000 to 20,000 px, {allowed}",
                "+-10 %",
                f"{100 * (ratio - 1):+.0f} %",
                abs(ratio - 1) <= 0.1,
                reason,
            )
    for alone in (row for row in rows if row.get("alone")):
        same = ("ndim", "edge", "workers", "memory", "network")
        for run in (row for row in rows if not row.get("alone") and all(row[key] == alone[key] for key in same)):
            stage, slowest = max(alone["stages"].items(), key=lambda item: item[1])
            ratio = run["seconds"] / slowest
            why = f"{stage}, {slowest:g} s; one after the other all take {alone['seconds']:g} s: they share the cores"
            levels, features = run["network"]
            name = f"{peers_page.image(run['ndim'], run['edge'])}, disk to disk, {levels} poolings, {features} features"
            yield name, "<= 1.25 x the slowest stage alone", f"{ratio:.2f} x", ratio <= 1.25, why


def join_targets(document: Document) -> Iterator[Target]:
    small, big = document["rows"][0], document["rows"][-1]
    exact = all(row["instances"] == row["true"] for row in document["rows"])
    text = f"{big['seconds']:.1f} s, {big['memory'] / 1e9:.2f} GB"
    met = exact and big["seconds"] <= 10 and big["memory"] <= 4e9
    each = (big["seconds"] / big["fragments"]) / (small["seconds"] / small["fragments"])
    reason = (
        f"{'all counts exact' if exact else 'counts differ'}; time per fragment {each:.2f} x that of {small['fragments']:,}"
    )
    yield f"joining {big['instances']:,} instances of {big['blocks']} blocks", "<= 10 s, <= 4 GB", text, met, reason


def join_scaling(document: Document) -> list[str]:
    lines = ["## Joining blocks", "", "| blocks | fragments | instances | true | s | memory, MB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['blocks']} | {row['fragments']:,} | {row['instances']:,} | {row['true']:,} | {row['seconds']:.2f} | "
        f"{row['memory'] / 1e6:.0f} |"
        for row in document["rows"]
    ]
    return [*lines, "", said(document, "join_scaling"), ""]


def growth(small: Document, big: Document) -> str:
    pixels = (big["edge"] / small["edge"]) ** 2
    return (
        f"From {small['edge']:,} to {big['edge']:,} px, {pixels:.3g} times the pixels, the time grows by "
        f"{big['seconds'] / small['seconds']:.3g} and the peak memory by {big['peak_memory'] / small['peak_memory']:.2f}."
    )


SECTIONS = {
    "streaming": lambda document: [*parts_page.streaming(document), said(document, "streaming"), ""],
    "tile_path": lambda document: [*parts_page.tile_path(document), said(document, "tile_path"), ""],
    "large_pages": lambda document: [*parts_page.large_pages(document), said(document, "large_pages"), ""],
    "compiled": lambda document: [*parts_page.compiled(document), said(document, "compiled"), ""],
    "clustering": lambda document: [*clustering_page.clustering(document), said(document, "clustering"), ""],
    "large_images": large,
    "join_scaling": join_scaling,
    "limits": limits,
}


if __name__ == "__main__":
    main()
