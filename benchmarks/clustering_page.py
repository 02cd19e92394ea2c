"""Sections of docs/performance.md about clustering and merging, from docs/measurements/clustering.json."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts_page import plain, words

Row = dict[str, Any]

FASTER = {"small": 30.0, "large": 100.0}
FLAT, SHARE, MERGING, COUNT = 1.3, 0.2, 150.0, 0.01
SETS = {"small": "the small set", "large": "the large set"}


def clustering(found: Row) -> list[str]:
    """Modes and labels against other packages, and what they cost beside the network."""
    setting = ", ".join(f"{words(name)} {plain(value)}" for name, value in found.get("setting", {}).items())
    lines = [
        "## Clustering",
        "",
        "Synthetic embeddings whose truth is known: codes, noise, and pixels at borders that mix two codes. No method is told "
        f"the number of clusters; all get the same bandwidth, ours one setting throughout ({setting}). CPU seconds of one "
        "thread. *ARI*: adjusted Rand index with the truth over all pixels, a pixel without a mode counted as a cluster of its "
        "own; *pure*: over the pixels that mix nothing.",
        "",
        "| set | method | s | times ours | modes | of | ARI | pure |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in SETS:
        for row in found.get(name, []):
            size = f"{row['pixels']:,} x {row['dimensions']}"
            cells = [plain(row[key]) if key in row else "-" for key in ("times_ours", "modes", "truth")]
            scores = [f"{row[key]:.4f}" if key in row else "-" for key in ("ari", "ari_pure")]
            lines.append(f"| {size} | {own(row)} | {row['seconds']:.3g} | {' | '.join([*cells, *scores])} |")
    lines.append("")
    if flat := found.get("flatness"):
        lines += [
            "The same number of pixels, more and more clusters; with them grow the borders and the pixels that mix two codes. "
            "*Labels*: `label_instances`, window by window, as an image is clustered; *at once*: all in one `mean_shift`.",
            "",
            "| clusters | mixed pixels | labels, s | times the first | objects | ARI | at once, s | times the first | modes |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in flat:
            labels = f"{row['seconds_labels']:.3g} | {row['labels_times_first']:.2f} | {row['objects']:,}"
            at_once = f"{row['ari_labels']:.4f} | {row['seconds']:.3g} | {row['times_first']:.2f} | {row['modes']:,}"
            lines.append(f"| {row['truth']:,} | {100 * row['mixed']:.0f} % | {labels} | {at_once} |")
        lines.append("")
    if share := found.get("share"):
        lines += [
            f"Beside the network: {plain(share['objects'])} objects; {share['seconds_network']:.3g} s for the network and "
            f"{share['seconds_clustering']:.3g} s for the labels, {100 * share['share']:.0f} % of it "
            f"({share['threads']} threads).",
            "",
        ]
    if merging := found.get("merging"):
        lines += ["| merging | cells | blocks | s | times ours | objects | ARI |", "|---|---|---|---|---|---|---|"]
        for row in merging:
            times = plain(row.get("times_ours", "-"))
            lines.append(
                f"| {own(row)} | {row['cells']:,} | {row['blocks']} | {row['seconds']:.3g} | {times} | {row['objects']:,} | "
                f"{row['ari']:.4f} |"
            )
        lines.append("")
    return lines


def own(row: Row) -> str:
    return f"**{row['method']}**" if row["method"].startswith("ours") else row["method"]


def targets(found: Row) -> Iterator[tuple[str, str, str, bool, str]]:
    """Faster by far, with the true count, flat, and cheap beside the network."""
    for name, text in SETS.items():
        rows = found.get(name, [])
        mine = next((row for row in rows if row["method"] == "ours"), None)
        peer = next((row for row in rows if row["method"].startswith("scikit-learn") and "times_ours" in row), None)
        if mine and peer:
            why = f"{mine['seconds']:.3g} s against {peer['seconds']:.3g} s, {peer['method']}"
            times = peer["times_ours"]
            yield f"clustering: {text}, over scikit-learn", f"{FASTER[name]:g} x", f"{times:.0f} x", times >= FASTER[name], why
        if mine:
            off = abs(mine["modes"] / mine["truth"] - 1)
            count, why = f"{mine['modes']} of {mine['truth']}", f"ARI {mine['ari']:.4f}, pure pixels {mine['ari_pure']:.4f}"
            yield f"clustering: {text}, number of modes", f"within {100 * COUNT:g} %", count, off <= COUNT, why
    if flat := found.get("flatness"):
        most = max(row["labels_times_first"] for row in flat)
        text = f"labels: slowest over the first, {flat[0]['truth']} to {flat[-1]['truth']} clusters"
        why = ", ".join(f"{row['truth']}: {row['seconds_labels']:.3g} s" for row in flat)
        why += f"; pixels that mix two codes grow from {100 * flat[0]['mixed']:.0f} to {100 * flat[-1]['mixed']:.0f} %"
        yield text, f"at most {FLAT:g}", f"{most:.2f}", most <= FLAT, why
        off = max(abs(row["objects"] / row["truth"] - 1) for row in flat)
        counts = ", ".join(f"{row['objects']} of {row['truth']}" for row in flat)
        yield (
            "labels: number of objects",
            f"within {100 * COUNT:g} %",
            counts,
            off <= COUNT,
            f"off by {100 * off:.1f} % at most",
        )
    if share := found.get("share"):
        why = f"{share['seconds_clustering']:.3g} s beside {share['seconds_network']:.3g} s"
        text = "clustering: of the time of the network"
        yield text, f"at most {100 * SHARE:.0f} %", f"{100 * share['share']:.0f} %", share["share"] <= SHARE, why
    merging = found.get("merging", [])
    for row in merging:
        if "times_ours" in row:
            times, why = row["times_ours"], f"{row['cells']:,} cells in {row['blocks']} blocks, {row['seconds']:.3g} s"
            why += f" and {row['objects']:,} found, against {merging[0]['seconds']:.3g} s and {merging[0]['objects']:,}"
            yield f"merging: over {row['method']}", f"{MERGING:g} x", f"{times:.0f} x", times >= MERGING, why
