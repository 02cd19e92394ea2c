"""What an interrupted run out of core has left behind, in words."""

from __future__ import annotations

from pathlib import Path

from napari_shiftseg.io import WorkFolder

__all__ = ["kept_of"]


def kept_of(out: str | Path) -> str:
    """How much of an unfinished run is kept, as the first half of a sentence; "" if a run would begin anew.

    Parameters
    ----------
    out : path
        The store that the run will become.
    """
    work = WorkFolder(out)
    total = (work.read_json("run.json") or {}).get("tasks", 0)
    found, settled = len(work.names("faces")), len(work.names("tables"))
    if not total or not found:
        return ""
    if found < total:
        return f"{found} of {total} blocks {'is' if found == 1 else 'are'} kept"
    if total == 1:
        return "the network's work is kept" + ", and so are the labels" * settled
    return f"the network's work on all {total} blocks is kept, and the labels of {settled}"
