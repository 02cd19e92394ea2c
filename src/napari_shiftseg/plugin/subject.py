"""A result in the viewer as the arrays, the plan and the record that measurements need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from napari.layers import Layer

from napari_shiftseg.errors import ModelError, ResultError, ShiftsegError
from napari_shiftseg.geometry import TilePlan, UNetSpec, plan_again
from napari_shiftseg.plugin.edited import edits_of
from napari_shiftseg.plugin.layers import in_order
from napari_shiftseg.plugin.signature import KEY, digest_of, is_older, signature_of

if TYPE_CHECKING:
    from napari_shiftseg.io import Image, View
    from napari_shiftseg.network import Limits, Model

ROLES = ("instances", "embedding")

VIEWED = "embedding of the view"
"""Role of an embedding that is known only where the viewer has looked, so that nothing can be measured of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A result of one run, and the frame of it that is looked at."""

    name: str  # of the segmented image
    run: str  # identity of the run; all parts are of it
    # embedding, labels: (E, *axes) and (*axes), as the layers hold them
    embedding: Any
    labels: Any
    axes: str  # of the labels; those before the axes of the plan are looped over
    index: tuple[int, ...]  # position on the looped axes
    plan: Any
    record: Mapping[str, Any]
    image: Layer | Path | None  # where the image is: a layer, or the store that the result was opened from
    model: str  # name or path of the model, "" where it is not known
    truth: Any = None  # (*axes) int, true objects
    shown: Any = None  # the embedding as the layer holds it, whose axes may have another order
    # digest, image_digest: of that as the run wrote it, and of the image as the run read it, where they are known
    digest: str | None = None
    image_digest: str | None = None
    edits: int = 0  # of the labels, by hand

    @property
    def plan_values(self) -> Mapping[str, Any]:
        """The plan as plain values."""
        return self.plan if isinstance(self.plan, Mapping) else self.plan.to_dict()

    @property
    def streamed(self) -> bool:
        """Whether the network ran in strips, whose rows meet without seams."""
        method = self.record.get("method", {})
        return isinstance(method, Mapping) and method.get("name") == "stream"

    @property
    def spatial(self) -> str:
        """Axes of the plan."""
        return self.axes[len(self.index) :]

    @property
    def where(self) -> str:
        """The frame in words, "" where there is only one."""
        return ", ".join(f"{axis} = {position}" for axis, position in zip(self.axes, self.index, strict=False))

    def frame(self, part: str) -> "View | None":
        """The embedding, the labels or the truth of the frame, not read yet."""
        from napari_shiftseg.io import View

        array, lead = getattr(self, part), int(part == "embedding")
        if array is None:
            return None
        return View.at(array, dict(enumerate(self.index, lead)), name=f"the {part}")

    def embedding_of_run(self) -> "View | None":
        """The embedding of the frame, not read if it lies on disk.

        ResultError if it is not what the run wrote, since nothing would be said of the run then.
        """
        if self.shown is not None and self.digest and digest_of(self.shown) != self.digest:
            raise ResultError(f"the embedding of {self.name} was changed since its run; segment the image again to measure it.")
        return self.frame("embedding")

    @property
    def remedy(self) -> str:
        """How to get an embedding of this run, "" where there is one."""
        if self.embedding is not None:
            return ""
        lacks = "There is no embedding of this run, so what the tiles did to it was not measured"
        if "blocks" in self.record:
            return f"{lacks}: write it with shiftseg segment --embedding, or let Verify tiling decide."
        return f"{lacks}: run again with Embedding layers on."

    def pixels(self) -> "View":
        """The image of the frame, (C, *shape), not read yet; ResultError as `whole_image`."""
        wanted = dict(zip(self.axes, self.index, strict=False))
        return next(frame.view for frame in self._frames(self.whole_image()) if frame.index == wanted)

    def limits(self) -> "Limits":
        """The intensities of the frame that became 0 and 1."""
        from napari_shiftseg.segmentation.intensity import recorded_limits

        lead, array = (0, self.labels) if self.labels is not None else (1, self.embedding)
        looped = tuple(np.shape(array)[lead : lead + len(self.index)])
        return recorded_limits(self.record).of(int(np.ravel_multi_index(self.index, looped)) if looped else 0)

    @property
    def dtype(self) -> str:
        """The number format that ran; of a record that only tells the wish, that one."""
        job: Mapping[str, Any] = self.record.get("job") or self.record["settings"]
        return str(job.get("dtype", "float32"))

    def whole_image(self) -> "Image":
        """The image with all its frames, of which a few pixels are read.

        ResultError if the image is not there any more, or it is another one now.
        """
        if self.image is None:
            raise ResultError(f"the image of {self.name} is not in the viewer; open it, and segment it again.")
        image, copied = _image(self.image, self.record)
        # a store has its image written into it, maybe in another order of bytes
        if not copied and not self._was_segmented(image):
            where = f"the layer {self.image.name} shows" if isinstance(self.image, Layer) else f"{image.source} holds"
            raise ResultError(f"{where} other pixels than those that were segmented; segment it again.")
        return image

    def _was_segmented(self, image: "Image") -> bool:
        """Whether these are the pixels of the run: all of them where they are in memory, else some."""
        from napari_shiftseg.segmentation import pixel_digest

        found = digest_of(image.data) if self.image_digest else None
        if found is not None:
            return found == self.image_digest
        segmented = self.record["image"].get("pixels")
        return not segmented or pixel_digest(self._frames(image)) == segmented

    def _frames(self, image: "Image") -> Any:
        channels = self.record["settings"].get("channels")
        return image.frames(len(self.spatial), tuple(channels) if channels else None)

    def tile_plan(self) -> TilePlan:
        """The plan with its windows; ResultError if the record does not hold enough to make it again."""
        if isinstance(self.plan, TilePlan):
            return self.plan
        plan = plan_of_record(self.record)
        if plan is None:
            raise ResultError(f"the record of {self.name} does not say how it was tiled; segment the image again.")
        return plan


def is_result(layer: Layer) -> bool:
    """Whether a layer is a result that can be inspected: made by a run, and of the size that its plan says."""
    known = layer.metadata.get(KEY, {})
    if known.get("role") not in ROLES or "plan" not in known:
        return False
    plan, shape = known["plan"], np.shape(_data(layer))
    frame = tuple(plan["result_shape"] if isinstance(plan, Mapping) else plan.result_shape)
    sizes = dict(zip(known["axes"], shape, strict=False))
    return len(shape) == len(known["axes"]) and tuple(sizes.get(axis) for axis in "zyx"[-len(frame) :]) == frame


def is_truth(layer: Layer, result: Layer) -> bool:
    """Whether a layer can hold the true objects of a result: labels of its shape that this plugin did not make."""
    made = layer.metadata.get(KEY, {}).get("role")
    channels = int(result.metadata[KEY]["role"] == "embedding")
    return isinstance(layer, LabelsLayer) and made is None and np.shape(_data(layer)) == np.shape(_data(result))[channels:]


def subject_of(viewer: Any, layer: Layer, truth: Layer | None = None) -> Subject:
    """The result that a layer belongs to, with its truth; its other layers are found by their run."""
    known = layer.metadata[KEY]
    layers = {role: _partner(viewer, layer, role) for role in ROLES}
    shown = known["axes"].removeprefix("c")
    axes = "".join(axis for axis in "tzyx" if axis in shown)
    plan = known["plan"]
    looped = len(axes) - len(plan["result_shape"] if isinstance(plan, Mapping) else plan.result_shape)
    image = next((other for other in viewer.layers if other.unique_id == known["source_id"]), None)
    if image is None and known.get("store"):
        image = Path(known["store"])
    return Subject(
        name=known["source"],
        run=str(known.get("run") or ""),
        embedding=_pixels(layers["embedding"], f"c{shown}"),
        labels=_pixels(layers["instances"], shown),
        axes=axes,
        index=_position(viewer, layer, known["axes"], axes=axes)[:looped],
        plan=plan,
        record=known["record"],
        image=image,
        model=str(known.get("model") or known["record"].get("job", {}).get("model", {}).get("source", "")),
        truth=_pixels(truth, shown),
        shown=_data(layers["embedding"]),
        digest=None if layers["embedding"] is None else layers["embedding"].metadata[KEY].get("digest"),
        image_digest=known.get("image_digest"),
        edits=0 if layers["instances"] is None else len(edits_of(layers["instances"])),
    )


def layers_of_run(viewer: Any, layer: Layer | None) -> list[Layer]:
    """All layers of the run that a layer is of, with what was made of its result."""
    run = None if layer is None else layer.metadata[KEY].get("run")
    return [other for other in viewer.layers if run and other.metadata.get(KEY, {}).get("run") == run]


def newest(viewer: Any, older: Layer) -> Layer | None:
    """What a later run made in the place of an older result: that of the same role, else its instances."""
    known = older.metadata[KEY]
    made = [
        layer
        for layer in viewer.layers
        if is_result(layer)
        and layer.metadata[KEY].get("source_id") == known.get("source_id")
        and layer.metadata[KEY].get("run") != known.get("run")
        and signature_of(layer) is not None
        and not is_older(layer)
    ]
    roles = [layer.metadata[KEY]["role"] for layer in made]
    role = known["role"] if known["role"] in roles else "instances"
    return next((layer for layer in reversed(made) if layer.metadata[KEY]["role"] == role), None)


def without_embedding(viewer: Any, image: Layer | None) -> Layer | None:
    """Instances without an embedding: those that are selected, else the last ones, of the image if there are any."""
    known = {layer: layer.metadata.get(KEY, {}) for layer in viewer.layers}
    have = {k.get("run") for k in known.values() if k.get("role") in ("embedding", VIEWED)}
    left = [layer for layer, k in known.items() if is_result(layer) and k.get("run") not in have]
    of_image = [layer for layer in left if image is not None and known[layer]["source_id"] == image.unique_id]
    active = viewer.layers.selection.active
    return active if active in left else next(reversed(of_image or left), None)


def plan_of_record(record: Mapping[str, Any]) -> TilePlan | None:
    """The plan of a run, made again from its record; None where the record does not give the same plan."""
    try:
        spec, values = record["model"]["spec"], record["plan"]
        plan = plan_again(UNetSpec.from_dict(spec) if spec else None, values)
    except (ShiftsegError, KeyError, TypeError, ValueError):
        return None
    made = plan.to_dict()
    return plan if all(made[key] == values.get(key) for key in ("result_shape", "seams", "grid_phase", "period")) else None


def find_model(subject: Subject, chosen: str) -> "Model":
    """The model that made a result; ModelError if it is not found, or the file holds another model.

    `chosen`: a file that the user chose, "" for none.
    """
    from napari_shiftseg.io import bundled_models, load_model

    made_by = subject.record["model"]
    if chosen:
        model = load_model(chosen)
        if made_by["sha256"] and model.hash != made_by["sha256"]:
            raise ModelError(
                f"{Path(chosen).name} is not the model that made this result ({made_by['name']}, {made_by['sha256'][:8]}…); "
                "choose that one."
            )
        return model
    for name in (subject.model, made_by["name"]):
        if name and (name in bundled_models() or Path(name).is_file()):
            model = load_model(name)
            if model.hash == made_by["sha256"]:
                return model
    raise ModelError(
        f"the model that made this result ({made_by['name']}, {made_by['sha256'][:8]}…) does not come with this installation; "
        "choose its file under Model file."
    )


def _partner(viewer: Any, layer: Layer, role: str) -> Layer | None:
    """The layer of a role that came from the same run, those of this plugin before duplicates; a layer stands for itself."""
    known = layer.metadata[KEY]
    if known["role"] == role:
        return layer
    if not known.get("run"):
        return None
    same = [
        other
        for other in viewer.layers
        if is_result(other)
        and all(other.metadata[KEY].get(key) == value for key, value in (("role", role), ("run", known["run"])))
    ]
    return min(same, key=lambda other: (signature_of(other) is None, is_older(other)), default=None)


def _data(layer: Layer | None) -> Any:
    if layer is None:
        return None
    return layer.data[0] if layer.multiscale else layer.data


def _pixels(layer: Layer | None, layout: str) -> Any:
    """Data of a layer in the order "ctzyx", as far as it has these axes."""
    return None if layer is None else in_order(_data(layer), layout)[0]


def _position(viewer: Any, layer: Layer, layout: str, *, axes: str) -> tuple[int, ...]:
    """Pixel per axis of the labels, in the order of `axes`, at which the viewer's sliders stand."""
    shape = np.shape(_data(layer))
    at = layer.world_to_data(np.asarray(viewer.dims.point, float)[-layer.ndim :])
    at = np.clip(np.rint(at), 0, np.asarray(shape[: layer.ndim]) - 1).astype(int)
    return tuple(int(at[layout.index(axis)]) for axis in axes)


def _image(where: Layer | Path, record: Mapping[str, Any]) -> "tuple[Image, bool]":
    """The image of a result, and whether it is the copy that was saved with it."""
    if isinstance(where, Path):
        from napari_shiftseg.io import Image, open_result

        stored = open_result(where)
        if stored.image is None:
            return _original(where.name, record), False
        return Image.from_array(stored.image, axes=stored.image_axes, name=where.stem), True
    if not isinstance(where, ImageLayer):
        raise ResultError(f"the layer {where.name} is no image any more; segment it again.")
    from napari_shiftseg.plugin.source import image_of

    return image_of(where, record["image"]["axes"]), False


def _original(name: str, record: Mapping[str, Any]) -> "Image":
    """The file that was segmented, if it is where it was and still has that shape."""
    from napari_shiftseg.io import read_image

    source = Path(record["image"].get("source") or "the image")
    if not source.exists():
        raise ResultError(
            f"{name} was saved without its image, and {source} is not there; open the image and segment it again."
        )
    image = read_image(source, scene=record["image"].get("scene"))
    if len(image.axes) == len(record["image"]["axes"]):
        image = image.called(record["image"]["axes"])  # the user may have named them
    sizes = tuple(image.sizes.get(axis, 1) for axis in "zyx"[-len(record["plan"]["image_shape"]) :])
    if image.axes != record["image"]["axes"] or sizes != tuple(record["plan"]["image_shape"]):
        raise ResultError(f"{source} is not the image any more that {name} was made from; open it and segment it again.")
    return image
