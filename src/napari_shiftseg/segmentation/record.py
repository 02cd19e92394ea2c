"""The record of a run: what happened, as JSON values."""

from __future__ import annotations

import platform
import time
import uuid
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_shiftseg.geometry import TilePlan
from napari_shiftseg.io import Image
from napari_shiftseg.segmentation.job import Job

__all__ = ["record_of"]


def record_of(job: Job, plan: TilePlan) -> dict[str, Any]:
    """The record of a run, without what only its end can tell."""
    model, image, intensity = job.opened.model, job.opened.image, job.intensity
    assert intensity is not None
    several = intensity.limits if len(intensity.limits) > 1 else ()
    frame_limits = {"frame_limits": [limits.to_dict() for limits in several]} if several else {}
    return {
        "run": uuid.uuid4().hex,  # tells the layers and files of one run from those of any other
        "model": {
            "name": model.name,
            "sha256": model.hash,
            "spec": model.spec.to_dict() if model.spec else None,
            "record": model.record.to_dict() if model.record else None,
        },
        "image": {"name": image.name, "source": image.source, "axes": image.axes, "note": image.note, **_known(image)},
        "plan": plan.to_dict(),
        "status": job.status,
        "violations": [asdict(v) for v in job.broken],
        "promises": job.promises,
        "settings": asdict(job.settings),
        "clustering": asdict(job.clustering),
        "limits": intensity.of(0).to_dict(),
        **frame_limits,
        "intensity": {"notes": list(intensity.notes), "warnings": list(intensity.warnings)},
        "device": {"kind": job.device.kind, "name": job.device.name},
        "versions": _versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": job.to_dict(),
    }


def _known(image: Image) -> dict[str, Any]:
    """What else is known of the image: names of its channels, and where a viewer showed it."""
    known: dict[str, Any] = {"scene": image.scene, "channels": list(image.channels), "place": image.place}
    return {"sizes": image.sizes, **{key: value for key, value in known.items() if value not in (None, [])}}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("napari-shiftseg", "torch", "numpy", "scipy", "scikit-image"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    return found
