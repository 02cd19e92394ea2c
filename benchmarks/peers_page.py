"""Sections of docs/performance.md about other packages' tilers, from docs/measurements/peers.json."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from napari_shiftseg.geometry import UNetSpec

Row = dict[str, Any]

MONAI, NNUNET = "MONAI 0.25", "nnU-Net-style 0.5"
DEFAULT, FAST = "fp32 channels_last", "bf16 channels_last"
# number of axes -> least ratio like for like, for images of eight margins and more
ALIKE = {2: {MONAI: 1.7, NNUNET: 3.8}, 3: {MONAI: 1.8, NNUNET: 6.0}}
BOX = {MONAI: 5.0, NNUNET: 10.0}
MARGINS = 8
MATRIX_SHARE = 0.85
WHOLE, PADDED = "whole image", "whole image, zero-padded"


def sizes(found: Row) -> list[tuple[int, int]]:
    """Number of axes and edge of each image that was measured."""
    return sorted({(row["ndim"], row["edge"]) for row in found["rows"]})


def margin(found: Row, ndim: int) -> int:
    """Pixels that the network of the measurement loses per axis."""
    return UNetSpec(ndim=ndim, levels=found["settings"]["levels"][str(ndim)]).margin[0]


def configs(found: Row) -> list[str]:
    return list(dict.fromkeys(row["config"] for row in found["rows"]))


def rows_of(found: Row, ndim: int, edge: int, config: str | None = None) -> list[Row]:
    return [
        row
        for row in found["rows"]
        if (row["ndim"], row["edge"]) == (ndim, edge) and (config is None or row["config"] == config)
    ]


def named(rows: list[Row], name: str) -> Row | None:
    return next((row for row in rows if row["name"] == name), None)


def chosen(rows: list[Row]) -> Row | None:
    """Ours as it runs unless it is told otherwise."""
    return next((row for row in rows if row["ours"] and row["chosen"]), None)


def ratio(found: Row, mine: Row | None, peer: Row | None) -> Row | None:
    """Seconds of a peer over ours, turn by turn."""
    if mine is None or peer is None:
        return None
    key = (mine["ndim"], mine["edge"], mine["name"], mine["config"], peer["name"], peer["config"])
    wanted = ("ndim", "edge", "ours", "config", "peer", "peer_config")
    return next((one for one in found["ratios"] if tuple(one[part] for part in wanted) == key), None)


def spread(one: Row | None) -> str:
    return "-" if one is None else f"**{one['median']:.2f}** ({one['lowest']:.2f} to {one['highest']:.2f})"


def image(ndim: int, edge: int) -> str:
    return " x ".join([str(edge)] * ndim) + " px"


# -- targets ---------------------------------------------------------------------------------------------------------------


def targets(found: Row, *, large_only: bool = False) -> Iterator[tuple[str, str, str, bool | None, str]]:
    """What was aimed at: text, target, measured, whether it is met, and why (not).

    With `large_only`, only of images for which the goals were set.
    """
    for ndim, goals in ALIKE.items():
        large = [edge for axes, edge in sizes(found) if axes == ndim and edge >= MARGINS * margin(found, ndim)]
        small = [edge for axes, edge in sizes(found) if axes == ndim]
        if not small or (large_only and not large):
            continue
        edge = max(large or small)
        below = (
            "" if large else f"; the image is below {MARGINS} margins of {margin(found, ndim)} px, for which the goal was set"
        )
        for peer, goal in goals.items():
            for config in configs(found):
                rows = rows_of(found, ndim, edge, config)
                mine, theirs = chosen(rows), named(rows, peer)
                one = ratio(found, mine, theirs)
                if one is not None:
                    text = f"{ndim}D, {peer}, {config}, {image(ndim, edge)}"
                    why = arithmetic(mine, theirs) + below
                    yield f"like for like: {text}", f"{goal:g} x", f"{one['median']:.2f} x", one["median"] >= goal, why
    yield from out_of_the_box_targets(found)


def out_of_the_box_targets(found: Row) -> Iterator[tuple[str, str, str, bool | None, str]]:
    flat = [edge for ndim, edge in sizes(found) if ndim == 2]
    if not flat:
        return
    rows = rows_of(found, 2, max(flat))
    mine = chosen([row for row in rows if row["config"] == FAST])
    for peer, goal in BOX.items():
        theirs = named([row for row in rows if row["config"] == plain(found)], peer)
        one = ratio(found, mine, theirs)
        if one is not None:
            text = f"out of the box: {peer} in {plain(found)} over ours in {FAST}, {image(2, max(flat))}"
            yield text, f"{goal:g} x", f"{one['median']:.2f} x", one["median"] >= goal, arithmetic(mine, theirs)
    if mine is not None:
        share = mine["share_of_matrix_rate"]
        text = f"out of the box: share of the matrix rate in {FAST}, {image(2, max(flat))}"
        why = f"{rate(mine)} of {found['rates']['matrix']['bfloat16'] / 1e9:.0f} GFLOP/s"
        yield text, f"{100 * MATRIX_SHARE:.0f} %", f"{100 * share:.0f} %", share >= MATRIX_SHARE, why


def arithmetic(mine: Row, theirs: Row) -> str:
    """What the ratio is made of."""
    times = theirs["flops"] / mine["flops"]
    return f"{times:.2f} times our operations, at {rate(theirs)} against {rate(mine)}"


def rate(row: Row) -> str:
    return f"{row['flops_per_second'] / 1e9:.3g} GFLOP/s"


def plain(found: Row) -> str:
    """Format and layout in which PyTorch runs a network that nobody touched."""
    return next((name for name in configs(found) if name.endswith("TF32")), configs(found)[0])


# -- like for like, out of the box -----------------------------------------------------------------------------------------


def sections(found: Row) -> list[str]:
    """Like for like, and out of the box."""
    settings = found["settings"]
    nets = "; ".join(
        f"{ndim}D: {settings['levels'][str(ndim)]} poolings, {settings['features'][str(ndim)]} features, windows of "
        f"{settings['window'][str(ndim)]} px"
        for ndim in sorted({row["ndim"] for row in found["rows"]})
    )
    counted = "by PyTorch's counter" if all("counted" in row for row in found["rows"]) else "by formula"
    lines = [
        "## Like for like",
        "",
        "The same weights, number format, memory layout and threads, in one process and in turns; from an image in main memory "
        "to an embedding there. Ours runs a U-Net with valid convolutions, the others its zero-padded twin, since their tilers "
        f"need an output of the input's size ({nets}; untrained, 8 embedding channels). MONAI is the package; what ends in "
        "*-style* is a re-implementation of the tiling of that package alone, without its test-time mirroring, pre- and "
        "post-processing.",
        "",
        f"*Operations*: {counted}, over those of the same pixels in an infinitely large image. *Ratio*: seconds over ours, the "
        f"row in bold, turn by turn: median, and lowest to highest of {settings['turns']}. *Memory*: peak above the start, "
        "with the result. *Off by*: difference to the whole image in one pass of the same network, over the root mean square "
        "length of its embeddings, where no pixel sees the border of the image: largest, relative L2, share of pixels off by "
        "more than 1 %. An untrained network weighs near pixels most, so a halo that is too small shows less than "
        "it would with a trained one.",
        "",
    ]
    for ndim, edge in sizes(found):
        lines += size_table(found, ndim, edge)
    return lines + out_of_the_box(found)


def more_images(found: Row, title: str) -> list[str]:
    """Like for like again, for images of other sizes."""
    settings = found["settings"]
    lines = [
        f"## Like for like, {title}",
        "",
        f"As above, on another day and in fewer formats; turns: {settings['turns']}. Where one pass over the whole image does "
        "not fit, the difference is that to tiles with all their context.",
        "",
    ]
    for ndim, edge in sizes(found):
        lines += size_table(found, ndim, edge)
    return lines


def size_table(found: Row, ndim: int, edge: int) -> list[str]:
    shown = [config for config in configs(found) if not config.endswith("TF32")]
    wide = " | ".join(f"s, {config} | ratio" for config in shown)
    lines = [
        f"### {image(ndim, edge)}",
        "",
        f"| | operations | {wide} | memory, MB | off by | L2 | > 1 % |",
        "|---|---|" + "---|---|" * len(shown) + "---|---|---|---|",
    ]
    first = DEFAULT if DEFAULT in shown else shown[0]
    for row in rows_of(found, ndim, edge, first):
        cells = []
        for config in shown:
            rows = rows_of(found, ndim, edge, config)
            mine, here = chosen(rows), named(rows, row["name"])
            one = ratio(found, mine, here)
            cells.append(f"{here['median']:.3g} | {'1' if here is mine else spread(one) if one else by_medians(here, mine)}")
        name = f"**ours, {row['name']}**" if row["chosen"] else f"ours, {row['name']}" if row["ours"] else row["name"]
        memory = f"{row['peak_memory'] / 1e6:.0f}" if "peak_memory" in row else "-"
        error = row["difference"]
        lines.append(
            f"| {name} | {row['over_ideal']:.2f} | {' | '.join(cells)} | {memory} | {error['inside_max']:.1e} | "
            f"{error['inside_relative_l2']:.1e} | {100 * error['inside_share_above_1_percent']:.2f} % |"
        )
    return [*lines, ""]


def by_medians(row: Row, mine: Row | None) -> str:
    return f"{row['median'] / mine['median']:.2f}" if mine else "-"


def out_of_the_box(found: Row) -> list[str]:
    lines = [
        "## Out of the box",
        "",
        f"What a user gets who changes nothing: theirs in {plain(found)}, PyTorch's own choice; ours in {DEFAULT}, its "
        "default, and in bfloat16, which `--dtype bfloat16` asks for. The same runs as above.",
        "",
        f"| image | | s | over ours, {DEFAULT} | over ours, {FAST} |",
        "|---|---|---|---|---|",
    ]
    for ndim, edge in sizes(found):
        rows = rows_of(found, ndim, edge)
        mine = [chosen([row for row in rows if row["config"] == config]) for config in (DEFAULT, FAST)]
        for peer in (row for row in rows if not row["ours"] and row["config"] == plain(found)):
            cells = " | ".join(spread(ratio(found, one, peer)) for one in mine)
            lines.append(f"| {image(ndim, edge)} | {peer['name']} | {peer['median']:.3g} | {cells} |")
    return [*lines, ""]


# -- the image of 1003 px --------------------------------------------------------------------------------------------------


def odd_image(found: Row) -> list[str]:
    """Where windows lie in an image of 1003 px, and what that changes."""
    entries = found["odd_image"]
    if not entries:
        return []
    edge = entries[0]["edge"]
    lines = [
        f"## An image of {edge} px",
        "",
        f"{edge} is no multiple of any period, so a tiler that lets its last window end with the image, or that spreads its "
        "windows evenly, puts them off the lattice on which the whole image lies: each such window computes other output "
        "functions (Rumberger et al. 2021, section 3.2), whatever its halo. *Phases*: first pixels of the windows modulo the "
        "period, relative to the whole image. *Off by* as above, against the whole image in one pass of the same network; "
        "labels of the same part, which does not see the border.",
        "",
    ]
    for entry in entries:
        lines += odd_table(entry)
    return lines


def odd_table(entry: Row) -> list[str]:
    labelled = "ari" in entry["rows"][0]
    more = " labels otherwise, px | ARI | instances |" if labelled else ""
    lines = [
        f"### {'Untrained network' if entry['network'] == 'untrained' else 'Model `' + entry['network'] + '`'}, "
        f"period {entry['period']} px",
        "",
        f"| | windows off the lattice | phases | off by | L2 | > 1 % |{more}",
        "|---|---|---|---|---|---|" + "---|---|---|" * labelled,
    ]
    for row in entry["rows"]:
        error = row["difference"]
        off = f"{row['off_lattice']} of {row['windows']}" if "windows" in row else "-"
        phases = "; ".join(",".join(map(str, axis)) for axis in dict.fromkeys(map(tuple, row.get("phases", [])))) or "-"
        cells = f"| {'**ours, ' + row['name'] + '**' if row['ours'] else row['name']} | {off} | {phases} | "
        cells += f"{error['inside_max']:.1e} | {error['inside_relative_l2']:.1e} | "
        cells += f"{100 * error['inside_share_above_1_percent']:.2f} % |"
        if labelled:
            cells += (
                f" {row['pixels_decided_otherwise']:,} | {row['ari']:.6f} | {row['instances']} of {row['instances_whole']} |"
            )
        lines.append(cells)
    return [*lines, "", odd_sentence(entry), ""]


def odd_sentence(entry: Row) -> str:
    """What the table says, from its figures."""
    mine = [row for row in entry["rows"] if row["ours"]]
    theirs = [row for row in entry["rows"] if not row["ours"]]
    largest = max(row["difference"]["max"] for row in mine)
    off = [row for row in theirs if row["off_lattice"]]
    words = f"Over {len(mine)} tile sizes and strips, ours "
    words += "is bit for bit the whole image" if largest == 0 else f"differs by {largest:.1e} at most"
    words += ", border included"
    words += ", which is the rounding of float32. " if 0 < largest < 1e-4 else ". "
    words += "**That is more than rounding.** " if largest >= 1e-4 else ""
    if off:
        low, high = (pick(row["difference"]["inside_relative_l2"] for row in off) for pick in (min, max))
        words += f"Of {len(theirs)} others, {len(off)} have windows off the lattice (relative L2 {low:.1e} to {high:.1e}). "
    on = [row for row in theirs if not row["off_lattice"]]
    exact = [row["name"] for row in on if row["difference"]["inside_max"] < 1e-4]
    if on:
        words += f"On the lattice are {', '.join(row['name'] for row in on)}; "
        words += f"{', '.join(exact)} read all the context that this network uses." if exact else "none reads all the context."
    return words.strip()
