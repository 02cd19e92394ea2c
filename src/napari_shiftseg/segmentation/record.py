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
from napari_shiftseg.segmentation.prepare import Task, promises, status
from napari_shiftseg.segmentation.settings import SegmentSettings

__all__ = ["record_of"]


def record_of(task: Task, plan: TilePlan, settings: SegmentSettings) -> dict[str, Any]:
    """The record of a run, without what only its end can tell."""
    model, image, device = task.model, task.image, task.device
    several = task.intensity.limits if len(task.intensity.limits) > 1 else ()
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
        "status": status(task.broken, model.record),
        "violations": [asdict(v) for v in task.broken],
        "promises": promises(task.plan, model.record),
        "settings": asdict(settings),
        "clustering": asdict(task.clustering),
        "limits": task.intensity.of(0).to_dict(),
        **frame_limits,
        "intensity": {"notes": list(task.intensity.notes), "warnings": list(task.intensity.warnings)},
        "device": {"kind": device.kind, "name": device.name},
        "versions": _versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
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
