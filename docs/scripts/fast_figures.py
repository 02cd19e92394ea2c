"""Figures that take seconds: computed anew whenever they are asked for.

Each function gives the figures of one place, as the pages write them. A name in a page is the function's name and the key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from napari_shiftseg import (
    SegmentSettings,
    load_model,
    plan_tiles,
    predict,
    read_image,
    seam_report,
    segment,
    synthetic,
    verify_tiling,
)
from napari_shiftseg.analysis import SeamReport, effective_period
from napari_shiftseg.io import bundled_models
from napari_shiftseg.network import Model
from napari_shiftseg.paper.measure import GAP, count_codes
from napari_shiftseg.segmentation import Segmentation

__all__ = ["GROUPS"]

PACKAGE = Path(str(files("napari_shiftseg")))
DOTS = {"pass": "green", "warn": "yellow", "fail": "red", "": "no"}


def said(report: SeamReport, digits: int = 2) -> dict[str, str]:
    """A seam report as pages quote it."""
    values = {"ratio": report.ratio, "low": report.interval[0], "high": report.interval[1]}
    return {name: f"{value:.{digits}f}" for name, value in values.items()} | {"dot": DOTS[report.finding]}


def mistakes(report: SeamReport) -> dict[str, str]:
    """What a truth says of a result, overall and at the seams."""
    score = report.score
    assert score is not None and score.at_seams is not None and score.elsewhere is not None
    counts: dict[str, float] = {"split": score.splits, "missed": score.fn, "unlabelled": score.unlabelled, "extra": score.fp}
    for place, part in (("seams", score.at_seams), ("elsewhere", score.elsewhere)):
        counts |= {f"{place}.split": part.splits, f"{place}.missed": part.fn, f"{place}.disks": part.tp + part.fn}
    return {name: f"{count:,}" for name, count in counts.items()} | {"ap": f"{score.ap:.3f}"}


@cache
def disks(model: str, write: int) -> tuple[Segmentation, SeamReport]:
    """The sample of Fig. 3 by a demonstration model, as docs/tour.md runs it."""
    drawn = synthetic.make(synthetic.preset("fig3").recipe)
    settings = SegmentSettings(write=write, device="cpu", allow_noncompliant=True)
    result = segment(drawn.image, load_model(model), settings=settings)
    return result, seam_report(result.embedding, result.plan, result.labels, drawn.labels)


def tour() -> dict[str, str]:
    """docs/tour.md: tiles off the lattice, on it, and a network that no tiling cures."""
    found = {"disks": f"{synthetic.make(synthetic.preset('fig3').recipe).labels.max():,}"}
    for name, model, write, digits in (("seams", "disks-fig3", 20, 0), ("cured", "disks-fig3", 32, 2)):
        _, report = disks(model, write)
        found |= {f"{name}.{key}": value for key, value in (said(report, digits) | mistakes(report)).items()}
    result, report = disks("disks-fig3a", 300)
    found |= {f"window.{key}": value for key, value in mistakes(report).items()}
    found |= {"window.seams": str(sum(map(len, result.plan.seams()))), "window.dot": DOTS[report.finding]}
    labels = [disks("disks-fig3", write)[0].labels for write in (16, 32, 48, 1000)]
    found["cured.otherwise"] = str(sum(int((labels[1] != other).sum()) for other in labels))
    for name in ("fig2a", "fig2b"):
        found |= {f"{name}.{key}": str(count) for key, count in codes(name).items()}
    return found


@cache
def codes(name: str) -> dict[str, int]:
    """Disks of a sample of Fig. 2 with context in the image, their embeddings, and axes whose last ones are as the first."""
    drawn, net = synthetic.make(synthetic.preset(name).recipe), load_model("disks-fig2b")
    plan = plan_tiles(net.spec, drawn.image.shape, 1000, "valid")
    embedding = predict(net, drawn.image, plan, device="cpu")
    window = tuple(slice(o, o + n) for o, n in zip(plan.origin, plan.result_shape, strict=True))
    inner = drawn.labels[window]
    numbers = np.unique(inner[inner > 0])
    means = np.array([embedding[:, inner == number].mean(axis=1) for number in numbers])
    edge = math.isqrt(len(numbers))
    square = means.reshape(edge, edge, -1)
    ends = ((square[0], square[-1]), (square[:, 0], square[:, -1]))
    alike = sum(bool((np.linalg.norm(first - last, axis=-1) < GAP).all()) for first, last in ends)
    return {"disks": len(numbers), "codes": count_codes(means, GAP), "axes.alike": alike}


@cache
def inspect() -> dict[str, str]:
    """docs/inspect.md: the sample of nuclei by tiles off the lattice and on it."""
    image, model = np.asarray(read_image(PACKAGE / "samples" / "nuclei.tif").data), load_model("nuclei")
    found = {}
    for name, write in (("bad", 61), ("good", 64)):
        settings = SegmentSettings(write=write, device="cpu", allow_noncompliant=True)
        result = segment(image, model, settings)
        report = seam_report(result.embedding, result.plan, result.labels)
        check = verify_tiling(model, image, result.plan, device="cpu")
        assert check.whole and report.cuts is not None
        found |= {f"{name}.{key}": value for key, value in said(report).items()}
        found |= {f"{name}.differing": str(check.differing), f"{name}.tiles": str(check.compared)}
        found |= {f"{name}.straight": str(report.cuts.straight), f"{name}.chance": f"{report.cuts.straight_control:.1f}"}
    return found


def _effective(name: str, model: Model) -> dict[str, str]:
    """The effective period of a bundled model on the sample of its own kind, and what steps of the grid change, in percent."""
    own = PACKAGE / "samples" / f"{name}.tif"
    if own.exists():
        image = np.asarray(read_image(own).reordered().data[...])
    elif model.lattice.ndim == 3:
        image = synthetic.blobs((48, 96, 96), 24, radius=(8.0, 11.0), noise=0.1).image
    else:
        image = synthetic.make(synthetic.preset("fig2b" if "fig2b" in name else "fig3").recipe).image
    found = effective_period(model, image)
    halves = [felt[period // 2] for felt, period in zip(found.change, found.declared, strict=True)]
    changes = {"one": [felt[1] for felt in found.change], "half": halves}
    return {"effective": _edges(found.period)} | {f"effective.{key}": f"{100 * max(felt):.0f}" for key, felt in changes.items()}


def _edges(sizes: Sequence[int]) -> str:
    """One number where all axes have it, else code of all."""
    return str(sizes[0]) if len(set(sizes)) == 1 else f"`{' x '.join(map(str, sizes))}`"


def models() -> dict[str, str]:
    """docs/models.md: what the bundled files say of themselves."""
    found: dict[str, str] = {"count": str(len(bundled_models()))}
    for name in bundled_models():
        model = load_model(name)
        spec, record, file = model.spec, model.record, PACKAGE / "weights" / f"{name}.safetensors"
        assert record is not None
        parameters = sum(parameter.numel() for parameter in model.module.parameters())
        values: dict[str, Any] = {
            "poolings": spec.levels, "period": _edges(spec.period), "features": spec.features, "margin": _edges(spec.margin),
            "reach": _edges(spec.reach), "parameters": f"{parameters:,}", "millions": f"{parameters / 1e6:.1f}",
            "channels": spec.embedding_dim, "head": spec.head_kernel, "window": _edges(record.window),
            "inner": _edges(record.inner or record.window), "steps": f"{record.steps:,}",
            "megabytes": f"{file.stat().st_size / 1e6:.1f}", "sha": f"`{model.hash[:12]}`",
            "low": f"{record.normalisation.low:g}", "high": f"{record.normalisation.high:g}",
        }  # fmt: skip
        values |= {key: f"{value:g}" for key, value in vars(record.clustering).items()} | _effective(name, model)
        for key in ("delta_var", "delta_dist", "push_distance", "embedding_weight"):
            values[key] = "none" if record.settings.get(key) is None else f"{record.settings[key]:g}"
        found |= {f"{name}.{key}": str(value) for key, value in values.items()}
    return found


GROUPS = {"tour": tour, "inspect": inspect, "models": models}
"""What computes the figures whose names begin so."""
