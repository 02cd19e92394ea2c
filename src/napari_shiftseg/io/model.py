"""Models in and out, and descriptions as JSON: what `to_plain` writes down, `from_plain` reads by the types of its fields.

A model file is one safetensors file that holds weights, network and training record; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import ModelError, ResultError, SettingsError, ShiftsegError
from napari_shiftseg.files import path_of, replacing
from napari_shiftseg.geometry import Output, UNetSpec
from napari_shiftseg.network import Model, ModelRecord, UNet
from napari_shiftseg.network.arithmetic import threads_work

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_FORMAT = "napari-shiftseg model 1"
T = TypeVar("T")
Beyond = Literal["kept", "named", "none"]
"""What becomes of NaN and infinity, which JSON does not know: numbers all the same, their Python names, or null."""

_NAMES = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_AS_NUMBERS: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))
_AS_NULL: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="null"))


def bundled_models() -> tuple[str, ...]:
    """Names of the trained models that ship with the package: `nuclei` first, last those that only demonstrate something."""
    folder = files("napari_shiftseg") / "weights"
    names = [f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors")]
    return tuple(sorted(names, key=lambda name: (name.startswith("disks-"), name != "nuclei", name)))


def demonstrations() -> tuple[str, ...]:
    """Names of the bundled models that say of themselves that they only demonstrate something; no weights are read."""
    return tuple(name for name in bundled_models() if _is_demonstration(_find(name)))


def read_record(name: str | Path) -> ModelRecord | None:
    """How a model came to be and what it knows; no weights are read.

    ModelError if there is no such model or its record is damaged. `name`: as in `load_model`.
    """
    path = _find(name)
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("record")
    except (SafetensorError, OSError) as exc:
        raise ModelError(f"{path} is not a safetensors file ({exc}); give a model made by shiftseg train.") from exc
    return None if told is None else from_json(ModelRecord, told, what="the record of its training")


@told
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
    SettingsError
        In a process that was forked from one in which PyTorch had worked with several threads.

    >>> model = load_model("nuclei")
    >>> model.spec.period, model.record.window
    ((8, 8), (132, 132))
    """
    path = _find(name)
    threads_work()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as exc:
        raise ModelError(f"{path} is not a safetensors file ({exc}); give a model made by shiftseg train.") from exc
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path} holds weights, but no {_FORMAT!r} description; give a model made by shiftseg train.")
    try:
        spec = from_json(UNetSpec, metadata["spec"], what="the network")
        record = from_json(ModelRecord, metadata["record"], what="the record of its training") if "record" in metadata else None
        outputs = {told["name"]: _output(told) for told in json.loads(metadata.get("outputs", "[]"))}
        tensors = {key: _checked(key, value) for key, value in found.items()}
        held = sum(tensor.numel() for tensor in tensors.values())
        if spec.weights > held:  # nothing is built that the file cannot fill
            raise ModelError(f"a network of {spec.weights} weights is described, and the file holds {held}")
        with torch.device("cpu"):  # the process may have another default, for this and the type
            module = UNet(spec).float().eval()
        module.load_state_dict(tensors)
        model = Model(spec=spec, module=module, outputs=outputs, record=record, name=path.stem)
    except (ShiftsegError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError) as exc:
        detail = str(exc).splitlines()[0]
        raise ModelError(f"the description in {path} does not fit its weights ({detail}); train the model again.") from exc
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = str(name) if name in bundled_models() else str(path.absolute())
    return replace(model, hash=digest, source=source)


def _checked(key: str, value: torch.Tensor) -> torch.Tensor:
    """Weights as float32; ModelError for those that are no numbers, or are counted where they should be measured."""
    if not value.is_floating_point() and not key.endswith("num_batches_tracked"):  # which batch normalisation counts
        raise ModelError(f"{key} holds {value.dtype} values")
    weights = value.float()
    if not torch.isfinite(weights).all():
        raise ModelError(f"{key} holds values that are not finite")
    return weights


@told
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

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = save_model(Path(folder) / "mine", load_model("nuclei"), half=True)
    ...     print(path.name, load_model(path).record.window)
    mine.safetensors (132, 132)
    """
    if not isinstance(model, Model | UNet):
        raise ModelError(
            f"a {type(model).__name__} was given, and only a UNet can be written to a file; give one, or its Model."
        )
    model = model if isinstance(model, Model) else Model(module=model)
    module, record = model.unet, record or model.record
    path = path_of(path, "a place for the model", ResultError)
    if not path.suffix:
        path = path.with_suffix(".safetensors")
    tensors = {
        key: value.detach().cpu().contiguous().to(torch.float16 if half and value.is_floating_point() else value.dtype)
        for key, value in module.state_dict().items()
    }
    metadata = {"format": _FORMAT, "spec": to_json(module.spec)}
    if model.outputs != module.spec.outputs:
        metadata["outputs"] = to_json(described_outputs(model.outputs))
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


def described_outputs(outputs: Mapping[str, Output]) -> list[dict[str, Any]]:
    """What the channels of a network say, as JSON values."""
    return [{**vars(output), "channels": [output.channels.start, output.channels.stop]} for output in outputs.values()]


def _output(told: dict[str, Any]) -> Output:
    return Output(**{**told, "channels": slice(*told["channels"])})


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
    path = path_of(name, "a model", ModelError)
    if not path.is_file():
        raise ModelError(
            f"there is no model {str(name)!r}; give a .safetensors file or one of the bundled models: "
            f"{', '.join(bundled) or 'none'}."
        )
    return path


# -- descriptions as JSON -----------------------------------------------------------------------------------------------


def to_plain(value: object, *, beyond: Beyond = "kept", what: str = "it", error: type[ShiftsegError] = SettingsError) -> Any:
    """A value as JSON has it: dataclasses as objects, tuples and arrays as lists, numpy numbers as numbers, paths as text.

    Parameters
    ----------
    value
        Dataclasses, mappings, sequences, numpy values and paths, in any depth.
    beyond : {"kept", "named", "none"}
        What becomes of NaN and infinity.
    what : str
        What is written, for the message.
    error : type
        Raised where something has no form in JSON.

    >>> to_plain({"ap": float("nan"), "shape": (2, 3)}, beyond="none")
    {'ap': None, 'shape': [2, 3]}
    """
    writer = _AS_NULL if beyond == "none" else _AS_NUMBERS
    try:
        plain = writer.dump_python(value, mode="json", fallback=_of_other_kinds)
    except (TypeError, ValueError, RecursionError) as exc:
        raise error(f"{what} cannot be written as JSON ({exc}); give numbers, text, and lists and mappings of them.") from exc
    return json.loads(json.dumps(plain), parse_constant=_NAMES.get) if beyond == "named" else plain


def _of_other_kinds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy arrays and numbers
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no form there")


def from_plain(
    kind: type[T], values: object, *, what: str = "the description", error: type[ShiftsegError] = SettingsError
) -> T:
    """The value that `to_plain` wrote down.

    Parameters
    ----------
    kind : type
        A dataclass, or a type made of them such as ``tuple[Limits, ...]``.
    what : str
        What is read, for the message.
    error : type
        Raised where the values do not fit, in one sentence with the first that does not.

    >>> from napari_shiftseg.geometry import UNetSpec
    >>> spec = UNetSpec(levels=2, pool=((1, 2), (2, 2)))
    >>> from_plain(UNetSpec, to_plain(spec)) == spec
    True
    >>> from_plain(UNetSpec, {"padding": "same"}, what="the network")
    Traceback (most recent call last):
    napari_shiftseg.errors.SettingsError: the network does not fit this version: padding is 'same'; give 'valid' or 'zero'.
    """
    plain = to_plain(values, what=what, error=error)
    try:  # in a tuple, since a dataclass that is plain takes its rules from what holds it
        return cast("T", _adapter(cast("Any", kind)).validate_python((plain,))[0])
    except ValidationError as exc:
        raise error(f"{what} does not fit this version: {_fault(exc, plain)}") from exc


def from_json(
    kind: type[T], text: str | bytes, *, what: str = "the description", error: type[ShiftsegError] = SettingsError
) -> T:
    """As `from_plain`, from the text of a file."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise error(f"{what} is not JSON ({exc}); give what was saved, unchanged.") from exc
    return from_plain(kind, values, what=what, error=error)


def to_json(value: object, *, what: str = "it", error: type[ShiftsegError] = SettingsError) -> str:
    """As `to_plain`, as the text of a file."""
    return json.dumps(to_plain(value, what=what, error=error))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid"))


def _fault(exc: ValidationError, values: object) -> str:
    """What was given and what is wanted, of the first value that does not fit."""
    errors = [(_place(error, values), error) for error in exc.errors(include_url=False)]
    # of a field that may be one of several types, the type that fits farthest counts
    place, first = max((each for each in errors if each[0][:1] == errors[0][0][:1]), key=lambda each: len(each[0]))
    if isinstance(own := first.get("ctx", {}).get("error"), ShiftsegError):
        return str(own)
    where = ".".join(place) or "it"
    if first["type"] == "missing":
        return f"{where} is missing; give it."
    if first["type"] == "unexpected_keyword_argument":
        return f"{where} is not known; leave it out, or update napari-shiftseg."
    wishes = dict.fromkeys(_wish(error["msg"]) for at, error in errors if at == place)
    return f"{where} is {first['input']!r:.60}; give {' or '.join(wishes)}."


def _place(error: ErrorDetails, values: object) -> list[str]:
    """Names and numbers on the way to a value; pydantic's words for the types on this way are left out."""
    names: list[str] = []
    here: Any = (values,)
    for part in error["loc"]:
        if isinstance(here, list | tuple):
            inside = isinstance(part, int) and part < len(here)  # pydantic counts places that are wanted and not there, too
        else:
            inside = isinstance(here, dict) and part in here
        if inside:
            names.append(str(part))
            here = here[part]
    if error["type"] == "missing":
        names.append(str(error["loc"][-1]))
    return names[1:]


def _wish(message: str) -> str:
    words = message.removeprefix("Input should be ").partition(", unable")[0].partition(", got")[0]
    return "as many as there are places" if words.startswith("Tuple should have") else words
