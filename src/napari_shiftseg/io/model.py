"""Models in and out: one safetensors file that holds weights, network and training record; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_shiftseg.errors import ModelError, ResultError, ShiftsegError
from napari_shiftseg.files import replacing
from napari_shiftseg.geometry import UNetSpec
from napari_shiftseg.io.plain import from_json, to_json
from napari_shiftseg.network import Model, ModelRecord, UNet

__all__ = ["bundled_models", "demonstrations", "load_model", "save_model"]

_FORMAT = "napari-shiftseg model 1"


def bundled_models() -> tuple[str, ...]:
    """Names of the trained models that ship with the package; those that only demonstrate something come last."""
    folder = files("napari_shiftseg") / "weights"
    names = [f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors")]
    return tuple(sorted(names, key=lambda name: (name.startswith("disks-"), name)))


def demonstrations() -> tuple[str, ...]:
    """Names of the bundled models that say of themselves that they only demonstrate something; no weights are read."""
    return tuple(name for name in bundled_models() if _is_demonstration(_find(name)))


def load_model(name: str | Path) -> Model:
    """A bundled model by name, or a model file.

    Parameters
    ----------
    name : str or path
        One of `bundled_models()`, or the path of a `.safetensors` file.

    Returns
    -------
    Model
        `.spec`, `.record`, `.module` (evaluation mode, CPU, float32), `.name`, `.hash`.

    Raises
    ------
    ModelError
        If there is no such model or the file is not one of ours.
    """
    path = _find(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as exc:
        raise ModelError(f"{path} is not a safetensors file ({exc}); give a model made by shiftseg train.") from exc
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path} holds weights, but no {_FORMAT!r} description; give a model made by shiftseg train.")
    try:
        spec = from_json(UNetSpec, metadata["spec"], what="the network")
        record = from_json(ModelRecord, metadata["record"], what="the record of its training") if "record" in metadata else None
        with torch.device("cpu"):  # the process may have another default, for this and the type
            module = UNet(spec).float().eval()
        module.load_state_dict(tensors)
    except (ShiftsegError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError) as exc:
        detail = str(exc).splitlines()[0]
        raise ModelError(f"the description in {path} does not fit its weights ({detail}); train the model again.") from exc
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model(spec=spec, module=module, record=record, name=path.stem, hash=digest)


def save_model(path: str | Path, model: Model | UNet, record: ModelRecord | None = None, *, half: bool = False) -> Path:
    """Write a model file.

    Parameters
    ----------
    path : str or path
        Gets the suffix `.safetensors` if it has none.
    model : Model or UNet
    record : ModelRecord, optional
        How it was trained; a `Model` brings its own.
    half : bool
        Store float16 weights: half the size, rounded to 11 bits.

    Returns
    -------
    Path
        Of the written file.
    """
    module = model.unet if isinstance(model, Model) else model
    if record is None and isinstance(model, Model):
        record = model.record
    path = Path(path)
    if not path.suffix:
        path = path.with_suffix(".safetensors")
    tensors = {
        key: value.detach().cpu().contiguous().to(torch.float16 if half and value.is_floating_point() else value.dtype)
        for key, value in module.state_dict().items()
    }
    metadata = {"format": _FORMAT, "spec": to_json(module.spec)}
    if record is not None:
        metadata["record"] = to_json(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(_in_order(save(tensors, metadata=metadata)))
    except ResultError as exc:
        raise ModelError(f"the model cannot be written: {exc}") from exc
    except OSError as exc:
        raise ModelError(f"the model cannot be written to {path} ({exc.strerror}); choose another place.") from exc
    return path


def _in_order(data: bytes) -> bytes:
    """The file with its metadata sorted: safetensors writes them in random order, and equal models shall have equal hashes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the weights aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _is_demonstration(path: Path) -> bool:
    with safe_open(path, framework="pt") as file:
        record = json.loads((file.metadata() or {}).get("record", "{}"))
    return bool((record.get("known") or {}).get("demonstration"))


def _find(name: str | Path) -> Path:
    bundled = bundled_models()
    if not isinstance(name, str | Path):
        raise ModelError(
            f"a {type(name).__name__} was given where a model is wanted; give its name or file, or a network as "
            "Model(module=..., lattice=..., outputs=...)."
        )
    if isinstance(name, str) and name in bundled:
        return Path(str(files("napari_shiftseg") / "weights" / f"{name}.safetensors"))
    path = Path(name)
    if not path.is_file():
        raise ModelError(
            f"there is no model {str(name)!r}; give a .safetensors file or one of the bundled models: "
            f"{', '.join(bundled) or 'none'}."
        )
    return path
