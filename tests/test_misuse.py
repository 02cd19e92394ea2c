"""What the library is given and cannot use is refused in a sentence, and nothing is lost or written in silence."""

import warnings

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import as_strided

from napari_shiftseg import (
    SegmentSettings,
    UNet,
    UNetSpec,
    discriminative_loss,
    label_instances,
    load_model,
    match_score,
    mean_shift,
    open_result,
    plan_tiles,
    predict,
    read_image,
    seam_report,
    segment,
    synthetic,
    train,
    verify_tiling,
)
from napari_shiftseg.errors import OutOfMemoryError, ShiftsegError
from napari_shiftseg.geometry import constants as geometry
from napari_shiftseg.network import Normalisation, TrainImage, TrainSettings

SPEC = UNetSpec(levels=1, convs=1, features=2, embedding_dim=2)
NET = UNet(SPEC).eval()
PLAN, SEAMS = plan_tiles(SPEC, (48, 48)), plan_tiles(SPEC, (48, 48), write=16)
IMAGE = np.random.default_rng(0).random((1, 48, 48), np.float32)
CODES = np.random.default_rng(0).random((2, 48, 48), np.float32)
LABELS = np.pad(np.ones((10, 10), int), 19)
POINTS = CODES.reshape(2, -1).T


def nested(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that such tensors may change
        return torch.nested.nested_tensor(list(torch.from_numpy(x + 0)))


def unknown(array):
    """A dask array that does not know how long its second axis is."""
    return da.from_array(array)[:, da.from_array(np.ones(array.shape[1], bool))]


TAKES = {
    "predict": (lambda x: predict(NET, x, PLAN), IMAGE),
    "verify_tiling": (lambda x: verify_tiling(NET, x, PLAN).max_difference, IMAGE),
    "segment": (lambda x: segment(x, "nuclei", SegmentSettings(device="cpu")).labels, IMAGE[0]),
    "label_instances": (lambda x: label_instances(x, bandwidth=0.3), CODES),
    "mean_shift": (lambda x: mean_shift(x, 0.2).assignment, POINTS),
    "seam_report": (lambda x: seam_report(x, SEAMS).ratio, CODES),
    "match_score": (lambda x: match_score(x, LABELS).tp, LABELS),
}
WRONG = {
    "None": lambda x: None,
    "a string": lambda x: "image",
    "a number": lambda x: 3.0,
    "an object": lambda x: object(),
    "objects": lambda x: x.astype(object),
    "strings": lambda x: x.astype(str),
    "complex": lambda x: x + 1j,
    "a complex tensor": lambda x: torch.from_numpy(x + 1j),
    "a sparse tensor": lambda x: torch.from_numpy(x + 0).to_sparse(),
    "a nested tensor": nested,
    "a tensor without values": lambda x: torch.zeros(x.shape, device="meta"),
    "unknown sizes": unknown,
    "ragged lists": lambda x: [[1.0, 2.0], [3.0]],
    "nothing": lambda x: x[:, :0],
}
RIGHT = {
    "a tensor": lambda x: torch.from_numpy(x.copy()),
    "a tensor with gradients": lambda x: (
        torch.from_numpy(x.copy()).requires_grad_() if x.dtype.kind == "f" else torch.from_numpy(x)
    ),
    "dask": lambda x: da.from_array(x),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(("call", "good"), TAKES.values(), ids=TAKES)
def test_what_is_no_array_of_real_numbers_is_refused(call, good, make):
    if call in (TAKES["match_score"][0], TAKES["label_instances"][0]) and make is WRONG["nothing"]:
        pytest.skip("what has no pixel has no object")
    with pytest.raises(ShiftsegError) as caught:
        call(make(good))
    assert 20 < len(str(caught.value)) < 400 and "\n" not in str(caught.value)


FILLED = {
    "a tensor": lambda shape: torch.zeros(shape),
    "a tuple": lambda shape: (),
    "overlapping": lambda shape: as_strided(np.zeros(9999, np.float32), shape, (160, 4, 4)),
    "one row": lambda shape: as_strided(np.zeros(shape[1:], np.float32), shape, (0, 4 * shape[2], 4)),
}


@pytest.mark.parametrize("make", FILLED.values(), ids=FILLED)
def test_an_array_to_fill_is_one_of_numpy_or_zarr_whose_elements_are_apart(make):
    """One row stood for all: the result was wrong and nothing said so."""
    with pytest.raises(ShiftsegError, match="the array to fill"):
        predict(NET, IMAGE, PLAN, out=make(predict(NET, IMAGE, PLAN).shape))


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
@pytest.mark.parametrize(
    ("call", "good"),
    TAKES.values(),
    ids=TAKES,
)
def test_arrays_of_other_kinds_give_what_plain_ones_give(call, good, make):
    np.testing.assert_array_equal(np.asarray(call(make(good))), np.asarray(call(good)))


@pytest.mark.parametrize(
    "call",
    {
        "no plan": lambda: predict(NET, IMAGE, None),
        "no plan to verify": lambda: verify_tiling(NET, IMAGE, {}),
        "no plan to measure": lambda: seam_report(CODES, None),
        "a wrong record": lambda: seam_report(
            CODES, {"plan": {"result_shape": [48, 48], "period": [8, 8], "seams": [[10**9], []]}}
        ),
        "no settings": lambda: segment(IMAGE[0], "nuclei", {"write": 16}),
        "no place": lambda: segment(IMAGE[0], "nuclei", out=3),
        "no path": lambda: read_image(None),
        "no result": lambda: open_result(3),
        "codes of length 0": lambda: label_instances(CODES[:0]),
        "points of length 0": lambda: mean_shift(POINTS[:, :0], 0.1),
        "fewer than no seeds": lambda: mean_shift(POINTS, 0.1, seeds=-1),
        "a bandwidth of nothing": lambda: label_instances(CODES, bandwidth=1e-300),
        "a bandwidth without end": lambda: label_instances(CODES, bandwidth=float("inf")),
        "a bandwidth in words": lambda: label_instances(CODES, bandwidth="wide"),
        "a loss of arrays": lambda: discriminative_loss(CODES, LABELS),
        "a loss of lists": lambda: discriminative_loss([[1.0]], [[1]]),
        "a complex loss": lambda: discriminative_loss(torch.from_numpy(CODES + 1j), torch.from_numpy(LABELS)),
        "a loss of no channel": lambda: discriminative_loss(torch.from_numpy(CODES[:0]), torch.from_numpy(LABELS)),
        "a loss of half labels": lambda: discriminative_loss(torch.from_numpy(CODES), torch.from_numpy(LABELS + 0.5)),
        "half labels": lambda: seam_report(CODES, SEAMS, LABELS + 0.5),
        "half a pixel": lambda: plan_tiles(SPEC, (48.5, 48)),
        "a shape in words": lambda: plan_tiles(SPEC, "48"),
        "no images": lambda: train(None, TrainSettings(spec=SPEC, steps=1)),
        "no training settings": lambda: train([], None),
        "no training image": lambda: train([IMAGE], TrainSettings(spec=SPEC, steps=1)),
        "a seed beyond all": lambda: train([TRAINED], TrainSettings(spec=SPEC, steps=1, seed=10**30)),
        "a seed below 0": lambda: train([TRAINED], TrainSettings(spec=SPEC, steps=1, seed=-1)),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_other_mistakes_are_told(call):
    with pytest.raises(ShiftsegError) as caught:
        call[1]()
    assert 20 < len(str(caught.value)) < 600


TRAINED = TrainImage.from_arrays(IMAGE[0], LABELS, Normalisation())
NUMBERS = [float("nan"), -1, 0, True, 1.5, "x", [1], float("inf")]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
@pytest.mark.parametrize("name", ["memory", "write", "bandwidth", "min_size", "workers"])
def test_wishes_that_are_no_such_number_are_refused(name, value):
    if (name, value) in [("min_size", 0), ("workers", 0), ("bandwidth", 1.5)] and value is not True:
        pytest.skip("that is one")
    with pytest.raises(ShiftsegError, match=None if name == "write" else name):
        segment(IMAGE[0], "nuclei", SegmentSettings(device="cpu", **{name: value}))


@pytest.mark.parametrize("channels", [(0.5,), [1.5], (float("nan"),), ("a",), (), (-1,), (1,), (10**30,)], ids=repr)
def test_channels_are_those_that_are_there(channels):
    with pytest.raises(ShiftsegError):
        segment(IMAGE[0], "nuclei", SegmentSettings(device="cpu", channels=channels))


# -- what can only be read --------------------------------------------------------------------------------------------


def test_what_can_only_be_read_is_not_written(tmp_path):
    """> PyTorch writes through a flag: into a file that is mapped for reading, which kills the process."""
    import zarr

    locked = np.zeros((2, 48, 48), np.float32)
    locked.flags.writeable = False
    np.save(tmp_path / "x.npy", np.zeros((2, 48, 48), np.float32))
    zarr.create_array(tmp_path / "x.zarr", shape=(2, 48, 48), dtype="f4")
    before = (tmp_path / "x.npy").read_bytes()
    for out in (
        locked,
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        zarr.open_array(tmp_path / "x.zarr", mode="r"),
        [1],
        torch.zeros(2, 48, 48),
        None,
    ):
        for given in (out, {"embedding": out}):
            if given is None:
                continue
            with pytest.raises(ShiftsegError, match=r"only be read|give an array"):
                predict(NET, IMAGE, PLAN, out=given)
    assert not locked.any() and (tmp_path / "x.npy").read_bytes() == before
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    np.testing.assert_array_equal(predict(NET, IMAGE, PLAN, out=mapped), predict(NET, IMAGE, PLAN))


# -- what is larger than the memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{"levels": 60}, {"levels": 10**9}, {"convs": 10**9}, {"decoder_convs": 10**9}], ids=lambda v: next(iter(v))
)
def test_a_network_beyond_any_image_is_none(values):
    with pytest.raises(ShiftsegError, match="beyond any image"):
        UNetSpec(**values)
    assert UNetSpec(levels=geometry.MOST_LEVELS).period[0] == 2**geometry.MOST_LEVELS == geometry.LARGEST_IMAGE


@pytest.mark.parametrize("edge", [10**6, 10**7])
def test_labels_that_memory_cannot_hold_are_refused_before_a_window_is_read(edge):
    flat = np.broadcast_to(np.float32(0), (1, edge, edge))
    with pytest.raises(OutOfMemoryError, match="out of core"):
        label_instances(flat, bandwidth=0.5)


@pytest.mark.parametrize(
    "build",
    {
        "embedding": lambda: UNet(UNetSpec(embedding_dim=10**9, features=64)),
        "features": lambda: UNet(UNetSpec(features=10**8)),
        "deep": lambda: UNet(UNetSpec(levels=geometry.MOST_LEVELS)),
        "kernel": lambda: UNet(UNetSpec(kernel=10**7 + 1)),
        "batch": lambda: train([TRAINED], TrainSettings(spec=SPEC, steps=1, batch=10**9)),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_what_does_not_fit_is_not_begun(build):
    with pytest.raises(OutOfMemoryError, match="GB"):
        build[1]()


@pytest.mark.parametrize("kind", ["disks", "constant"])
def test_nor_is_a_drawing(monkeypatch, kind):
    monkeypatch.setattr("napari_shiftseg.synthetic.sample.free_memory", lambda: 1 << 20)
    with pytest.raises(OutOfMemoryError, match="GB"):
        synthetic.make(
            synthetic.recipe_of(kind, (1000, 1000), **({"spacing": 40, "radius": 10, "offset": 0} if kind == "disks" else {}))
        )


def test_a_model_file_describes_no_more_than_it_holds(tmp_path):
    from dataclasses import replace

    from safetensors.torch import save_file

    from napari_shiftseg.io.model import to_json

    path = tmp_path / "m.safetensors"
    for name, value in {"levels": 60, "embedding_dim": 10**9, "features": 10**6, "in_channels": 10**8, "convs": 200}.items():
        spec = to_json(SPEC).replace(f'"{name}": {getattr(SPEC, name)}', f'"{name}": {value}')
        assert str(value) in spec
        save_file(NET.state_dict(), path, metadata={"format": "napari-shiftseg model 1", "spec": spec})
        with pytest.raises(ShiftsegError, match="does not fit its weights"):
            load_model(path)
    save_file(NET.state_dict(), path, metadata={"format": "napari-shiftseg model 1", "spec": to_json(replace(SPEC))})
    assert load_model(path).spec == SPEC and SPEC.weights <= sum(p.numel() for p in NET.parameters())
