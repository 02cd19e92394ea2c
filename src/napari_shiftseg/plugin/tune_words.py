"""`words_on_tuned`: what is said of labels that other settings of the clustering gave."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_shiftseg.instances import LabelSettings

_WORDS = {"threshold": "threshold", "bandwidth": "bandwidth", "dip": "dip", "valley": "valley", "min_size": "smallest size"}


def words_on_tuned(record: Mapping[str, Any], run: "LabelSettings") -> tuple[str, str]:
    """Level and text of a line on labels that were tuned; the dot is that of the network's part, and says so.

    `run`: the clustering that they are compared with.
    """
    from napari_shiftseg.instances import LabelSettings
    from napari_shiftseg.segmentation.relabelling import changed_of

    counts, status = record["instances"], record["status"]
    found = f"{counts[0]} instances" if len(counts) == 1 else f"{sum(counts)} instances in {len(counts)} frames"
    changed = changed_of(run, LabelSettings(**record["clustering"]))
    source = record.get("relabelled", {}).get("from", "network")
    words = ", ".join(f"{_WORDS.get(name, name)} {new:g} (run: {old:g})" for name, (old, new) in changed.items())
    how = (
        f"{'run again' if source == 'network' else 'tuned without the network'}: {words}"
        if words
        else "the settings of the run"
    )
    level = "pass" if status == "compliant" else "warn"
    if source == "labels" and words:
        level, how = "warn", f"{how}, from the labels alone, so close to those of a run and not equal"
    return level, f"{found}; {how}. The embedding they come from is {status}."
