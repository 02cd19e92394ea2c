"""Prediction reads what it needs, normalises once and fills the array that it is given."""

import threading
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, plan_tiles, predict
from napari_shiftseg.errors import DeviceError, ImageError, ModelError, OutOfMemoryError
from napari_shiftseg.events import Stage, TileDone, drain
from napari_shiftseg.network import (
    Device,
    Model,
    ModelRecord,
    Normalisation,
    choose_device,
    predict_steps,
    read_window,
    robust,
    unet,
)

tiles_module = import_module("napari_shiftseg.network.windows")
predict_module = import_module("napari_shiftseg.network.predict")  # the package has a function of that name
SPEC = UNetSpec(levels=2, features=3, foreground=True)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


class Lazy:
    """An image on disk: remembers the windows that were read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.read = data, data.shape, data.dtype, []

    def __getitem__(self, key):
        assert all(isinstance(k, slice) and 0 <= k.start < k.stop for k in key)
        self.read.append(key)
        return self.data[key]

    def __array__(self, *_args, **_keywords):
        raise AssertionError("the image was read as a whole")


def test_the_array_to_fill_is_filled_and_returned(seeded_net):
    net, image = seeded_net(SPEC), noise(1, 50, 61)
    plan = plan_tiles(SPEC, (50, 61), 16)
    out = np.full((3, 50, 61), np.nan, np.float32)
    assert predict(net, image, plan, device="cpu", out=out) is out
    np.testing.assert_array_equal(out, predict(net, image, plan, device="cpu"))
    assert np.isfinite(out).all() and out.std() > 0


def test_one_event_per_tile_in_raster_order(seeded_net):
    plan = plan_tiles(SPEC, (50, 61), 16)
    events = []
    predict(seeded_net(SPEC), noise(1, 50, 61), plan, device="cpu", on_event=events.append, method="tiles")
    assert events == [TileDone(done=n, total=16, write=tile.write) for n, tile in enumerate(plan, start=1)]


def test_cancelling_is_not_asking_for_the_next_tile(seeded_net, monkeypatch):
    monkeypatch.setattr(tiles_module, "batch_size", lambda plan, device: 1)
    image = Lazy(noise(1, 50, 61))
    steps = predict_steps(seeded_net(SPEC), image, plan_tiles(SPEC, (50, 61), 16), device="cpu", method="tiles")
    next(steps)
    next(steps)
    steps.close()
    assert 2 <= len(image.read) <= 2 + 1 + 2  # the next is being read, and at most two are read ahead
    assert not readers()


def test_a_lazy_image_is_read_window_by_window(seeded_net):
    """Each tile reads its own window, cut at the image's borders, and no more."""
    data = noise(1, 200, 120)
    image, plan = Lazy(data), plan_tiles(SPEC, (200, 120), 24)
    tiled = predict(seeded_net(SPEC), image, plan, device="cpu", method="tiles")
    assert len(image.read) == len(plan)
    for key, tile in zip(image.read, plan, strict=True):
        for got, read, (before, _), size in zip(key[1:], tile.read, plan.pad, data.shape[1:], strict=True):
            first, last = read.start - before, read.stop - before
            lowest = min(max(first, 0), size - 1 - max(last - size, 0))
            highest = max(min(last, size), min(-first, size - 1) + 1)
            assert lowest <= got.start and got.stop <= highest
    np.testing.assert_array_equal(tiled, predict(seeded_net(SPEC), data, plan, device="cpu", method="tiles"))


def test_an_image_without_channel_axis_is_one_channel(seeded_net):
    data, plan = noise(40, 40), plan_tiles(SPEC, (40, 40), 16)
    expected = predict(seeded_net(SPEC), data[None], plan, device="cpu")
    np.testing.assert_array_equal(predict(seeded_net(SPEC), data, plan, device="cpu"), expected)
    np.testing.assert_array_equal(predict(seeded_net(SPEC), Lazy(data), plan, device="cpu"), expected)


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_read_window_reflects_like_numpy(size):
    image = noise(2, size, size + 3)
    pad = ((7, 11), (0, 25))
    padded = np.pad(image, ((0, 0), *pad), mode="reflect" if size > 1 else "edge")
    if size == 1:  # numpy cannot reflect one pixel; the other axis still reflects
        padded = np.pad(np.pad(image, ((0, 0), pad[0], (0, 0)), mode="edge"), ((0, 0), (0, 0), pad[1]), mode="reflect")
    rng = np.random.default_rng(0)
    for _ in range(40):
        ends = [np.sort(rng.choice(n + 1, 2, replace=False)) for n in padded.shape[1:]]
        window = tuple(slice(int(a), int(b)) for a, b in ends)
        np.testing.assert_array_equal(read_window(image, window, pad), padded[(slice(None), *window)])


def model_of(net, normalisation):
    return Model(spec=net.spec, module=net, record=ModelRecord(window=(12, 12), normalisation=normalisation))


def test_limits_are_computed_once_for_the_whole_image(seeded_net, monkeypatch):
    """> never per tile: half of the image is dark, and its tiles must know of the bright half."""
    calls = []
    original = Normalisation.limits
    monkeypatch.setattr(Normalisation, "limits", lambda self, image: calls.append(1) or original(self, image))
    net, image = seeded_net(SPEC), noise(1, 64, 64)
    image[:, :32] *= 0.01
    plan = plan_tiles(SPEC, (64, 64), 16)
    tiled = predict(model_of(net, Normalisation(low=1, high=99)), image, plan, device="cpu")
    assert calls == [1]
    low, high = np.percentile(image, (1, 99))
    by_hand = predict(net, np.clip((image - low) / (high - low), -1, 4).astype(np.float32), plan, device="cpu")
    np.testing.assert_allclose(tiled, by_hand, atol=1e-5)


def test_a_bare_network_takes_intensities_as_they_are(seeded_net):
    net = seeded_net(SPEC)
    image = 1000 * noise(1, 44, 44) - 300
    plan = plan_tiles(SPEC, (44, 44), border="valid")
    expected = net(torch.from_numpy(image)[None])[0, :3].numpy()
    np.testing.assert_allclose(predict(net, image, plan, device="cpu"), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, np.bool_, ">u2"], ids=str)
def test_pixel_types(seeded_net, dtype):
    net, plan = seeded_net(SPEC), plan_tiles(SPEC, (30, 30), 8)
    image = (noise(1, 30, 30) * 100).astype(dtype)
    expected = predict(net, image.astype(np.float32), plan, device="cpu")
    np.testing.assert_array_equal(predict(net, image, plan, device="cpu"), expected)


def test_the_foreground_is_a_probability_and_does_not_overflow(seeded_net):
    net = seeded_net(SPEC)
    net.head.weight[3] *= 1e4
    net.head.bias[3] = -3e3
    plan = plan_tiles(SPEC, (40, 30), 16)
    prediction = drain(predict_steps(net, noise(1, 40, 30), plan, device="cpu"))
    assert prediction.foreground.shape == (40, 30)
    assert 0 <= prediction.foreground.min() < 1e-6 and prediction.foreground.max() <= 1
    assert prediction.device.kind == "cpu"


def test_without_a_foreground_there_is_none(seeded_net):
    spec = UNetSpec(levels=1, features=2)
    prediction = drain(predict_steps(seeded_net(spec), noise(1, 20, 20), plan_tiles(spec, (20, 20)), device="cpu"))
    assert prediction.foreground is None


def test_offsets_are_returned_as_the_network_gives_them(seeded_net):
    """Coordinates are added by the labelling in double precision, so that float32 does not round them on a slide."""
    spec = UNetSpec(levels=1, features=2, embedding_dim=2, coordinates=True)
    plain = UNetSpec(levels=1, features=2, embedding_dim=2)
    image = noise(1, 24, 24)
    np.testing.assert_array_equal(
        predict(seeded_net(spec), image, plan_tiles(spec, (24, 24)), device="cpu"),
        predict(seeded_net(plain), image, plan_tiles(plain, (24, 24)), device="cpu"),
    )


def test_bfloat16_is_close_to_float32(seeded_net):
    net, image, plan = seeded_net(SPEC), noise(1, 60, 60), plan_tiles(SPEC, (60, 60), 20)
    exact = predict(net, image, plan, device="cpu")
    rough = predict(net, image, plan, device="cpu", dtype="bfloat16")
    assert rough.dtype == np.float32
    difference = np.abs(exact - rough).max() / np.ptp(exact)
    assert 0 < difference < 0.03
    coarse = torch.from_numpy(rough).bfloat16().float().numpy()
    assert (rough != coarse).mean() > 0.9, "the head runs in full precision"
    assert next(net.parameters()).dtype == torch.float32, "the model itself stays as it is"


def test_deterministic_runs_give_equal_bits(seeded_net, device):
    net, image, plan = seeded_net(SPEC), noise(1, 60, 60), plan_tiles(SPEC, (60, 60), 20)
    a, b = (drain(predict_steps(net, image, plan, device=device, deterministic=True)).embedding for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_each_device_and_format_agrees_with_the_cpu(seeded_net, device):
    net, image, plan = seeded_net(SPEC), noise(1, 60, 60), plan_tiles(SPEC, (60, 60), 20)
    exact = predict(net, image, plan, device="cpu")
    np.testing.assert_allclose(predict(net, image, plan, device=device), exact, atol=1e-4)
    rough = predict(net, image, plan, device=device, dtype="bfloat16")
    assert np.abs(exact - rough).max() / np.ptp(exact) < 0.03


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 40, 40), "the image gives 2 channels and the network wants 1; choose 1"),
        ((1, 40, 41), r"made for an image of \(40, 40\) px, but the image has \(40, 41\)"),
        ((40, 40, 1), "give channels first"),
        ((41, 40), r"but the image has \(41, 40\)"),
    ],
    ids=str,
)
def test_an_image_that_does_not_fit_is_named(seeded_net, shape, said):
    with pytest.raises(ImageError, match=said):
        predict(seeded_net(SPEC), noise(*shape), plan_tiles(SPEC, (40, 40)), device="cpu")


def test_a_plan_or_an_array_that_does_not_fit_is_named(seeded_net):
    net, image, plan = seeded_net(SPEC), noise(1, 40, 40), plan_tiles(SPEC, (40, 40))
    with pytest.raises(ModelError, match="made for another network"):
        predict(net, image, plan_tiles(UNetSpec(levels=3), (40, 40)), device="cpu")
    with pytest.raises(ImageError, match=r"has shape \(4, 40, 40\); give \(3, 40, 40\)"):
        predict(net, image, plan, device="cpu", out=np.zeros((4, 40, 40), np.float32))


def test_a_missing_device_is_named_before_anything_is_read(seeded_net, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    image = Lazy(noise(1, 40, 40))
    model = model_of(seeded_net(SPEC), Normalisation())
    with pytest.raises(DeviceError, match="sees 0 CUDA devices"):
        predict(model, image, plan_tiles(SPEC, (40, 40)), device="cuda")
    assert image.read == []


def test_running_out_of_memory_is_said_with_the_tile(seeded_net, monkeypatch):
    def full(*_args, **_keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(unet.POOL, 2, full)
    with pytest.raises(OutOfMemoryError, match="a tile of 60 x 60 px; use smaller tiles"):
        predict(seeded_net(SPEC), noise(1, 20, 20), plan_tiles(SPEC, (20, 20), 20), device="cpu")


def small_memory(monkeypatch, largest):
    """Maps of more than `largest` pixels do not fit."""
    pool = unet.POOL[2]

    def pooled(x, factor):
        if x.shape[-1] * x.shape[-2] > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pool(x, factor)

    monkeypatch.setitem(unet.POOL, 2, pooled)


@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_a_tile_size_that_nobody_wished_for_becomes_smaller_where_memory_runs_out(seeded_net, monkeypatch, border):
    net, image = seeded_net(SPEC), noise(1, 300, 170)
    plan = plan_tiles(SPEC, (300, 170), border=border)
    expected = drain(predict_steps(net, image, plan, device="cpu", method="tiles"))
    small_memory(monkeypatch, 100**2)
    events = []
    found = drain(predict_steps(net, image, plan, device="cpu", method="tiles"), events.append)
    np.testing.assert_allclose(found.embedding, expected.embedding, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.foreground, expected.foreground, rtol=0, atol=1e-5)
    assert expected.plan is plan and max(found.plan.read) < 120 < max(plan.read)
    stages = [event.text for event in events if isinstance(event, Stage)]
    assert stages and stages[-1] == "memory ran out; again with tiles of {} x {} px".format(*found.plan.write)
    assert [event.done for event in events[-len(found.plan) :]] == list(range(1, len(found.plan) + 1))


@pytest.mark.parametrize("write", [96, None])
def test_a_tile_size_that_was_wished_for_or_cannot_become_smaller_is_an_error(seeded_net, monkeypatch, write):
    plan = plan_tiles(SPEC, (300, 170), write)
    small_memory(monkeypatch, 100**2 if write else 10)
    with pytest.raises(OutOfMemoryError, match="px; use smaller tiles"):
        predict(seeded_net(SPEC), noise(1, 300, 170), plan, device="cpu", method="tiles")


def test_a_trial_on_a_gpu_finds_tiles_that_fit(seeded_net, monkeypatch):
    """The estimate was wrong by a factor; the size that was wished for is left alone."""
    monkeypatch.setattr(predict_module, "_peak", lambda module, plan, device, dtype: 7 * SPEC.peak_bytes(plan.read))
    device = Device(torch_device=torch.device("cuda"), kind="cuda", name="small", free=20_000_000)
    plan = plan_tiles(SPEC, (600, 600))
    fitting = predict_module.fitting_plan(seeded_net(SPEC), plan, device, dtype="float32")
    assert 7 * SPEC.peak_bytes(fitting.read) < device.free < 7 * SPEC.peak_bytes(plan.read)
    assert fitting.result_shape == plan.result_shape and fitting.automatic
    wished = plan_tiles(SPEC, (600, 600), 512)
    assert predict_module.fitting_plan(seeded_net(SPEC), wished, device, dtype="float32") is wished


@pytest.mark.cuda
def test_the_peak_of_a_tile_is_measured_on_a_gpu(seeded_net):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    plan = plan_tiles(SPEC, (600, 600))
    peak = predict_module._peak(seeded_net(SPEC), plan, choose_device("cuda"), "float32")
    assert 0.3 < peak / SPEC.peak_bytes(plan.read) < 10


class Slow(Lazy):
    """Breaks at one window."""

    def __getitem__(self, key):
        if len(self.read) == 3:
            raise OSError("the disk is gone")
        return super().__getitem__(key)


def test_an_error_of_the_reader_arrives_as_it_is_and_after_the_tiles_before_it(seeded_net, monkeypatch):
    monkeypatch.setattr(tiles_module, "batch_size", lambda plan, device: 1)
    plan, events = plan_tiles(SPEC, (300, 300), 100), []
    with pytest.raises(OSError, match="the disk is gone"):
        drain(predict_steps(seeded_net(SPEC), Slow(noise(1, 300, 300)), plan, device="cpu", method="tiles"), events.append)
    assert len(events) == 3 and not readers()


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("shiftseg")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_small_tiles_share_a_pass_on_a_gpu_and_run_alone_on_a_cpu(seeded_net, monkeypatch, dtype):
    spec = UNetSpec(levels=2, features=8)
    net, image, plan = seeded_net(spec), noise(1, 150, 210), plan_tiles(spec, (150, 210), 24)
    cpu = choose_device("cpu")
    assert tiles_module.batch_size(plan, cpu) == 1
    assert tiles_module.batch_size(plan, replace(cpu, kind="cuda")) == 8
    monkeypatch.setattr(tiles_module, "batch_size", lambda plan, device: 8)
    passes, once = [], tiles_module._one_pass
    monkeypatch.setattr(tiles_module, "_one_pass", lambda *args: passes.append(len(args[1])) or once(*args))
    together = predict(net, image, plan, device="cpu", dtype=dtype, method="tiles")
    assert sum(passes) == len(plan) and len(passes) < len(plan) / 3
    monkeypatch.setattr(tiles_module, "batch_size", lambda plan, device: 1)
    alone = predict(net, image, plan, device="cpu", dtype=dtype, method="tiles")
    np.testing.assert_allclose(together, alone, rtol=0, atol=(1e-5 if dtype == "float32" else 2e-2) * np.abs(alone).max())
    passes.clear()
    monkeypatch.undo()
    monkeypatch.setattr(tiles_module, "_one_pass", lambda *args: passes.append(len(args[1])) or once(*args))
    drain(predict_steps(net, image, plan, device="cpu", deterministic=True, method="tiles"))
    assert set(passes) == {1}


def test_a_lazy_image_of_many_pixels_is_not_read_whole_for_its_limits(seeded_net, monkeypatch):
    monkeypatch.setattr(robust, "SAMPLE", 1 << 10)
    image = Lazy(noise(1, 300, 200))
    model, plan = model_of(seeded_net(SPEC), Normalisation()), plan_tiles(SPEC, (300, 200), 60)
    predict(model, image, plan, device="cpu", method="tiles")
    assert max(np.prod([k.stop - k.start for k in key]) for key in image.read) < 0.3 * 300 * 200


def test_the_network_is_left_in_its_mode_and_place(seeded_net):
    net = seeded_net(SPEC)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    predict(net, noise(1, 30, 30), plan_tiles(SPEC, (30, 30)), device="cpu", dtype="bfloat16")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("padding", ["valid", "zero"])
def test_empty_tiles_are_computed_once_and_equal_in_bits(seeded_net, monkeypatch, padding):
    spec = UNetSpec(levels=2, features=3, foreground=True, padding=padding)
    net, image = seeded_net(spec), np.zeros((1, 160, 160), np.float32)
    image[:, :20, :20] = noise(1, 20, 20)
    plan = plan_tiles(spec, (160, 160), 16)
    passes = []
    once = tiles_module._one_pass
    monkeypatch.setattr(tiles_module, "_one_pass", lambda *args: passes.extend(args[1]) or once(*args))
    found = predict(net, image, plan, device="cpu")
    some = len(passes)
    monkeypatch.setattr(tiles_module.ConstantTiles, "key", lambda self, pixels, keep: None)
    np.testing.assert_array_equal(found, predict(net, image, plan, device="cpu"))
    # near its border a zero-padded network reads less, so there are more kinds of tiles
    assert len(passes) - some == len(plan) and some < (0.25 if padding == "valid" else 0.5) * len(plan)
    assert found[:, 100:].std() > 0, "the pattern of the period, not one value"


def test_of_empty_tiles_only_a_few_are_kept():
    empty = tiles_module.ConstantTiles()
    for value in range(20):
        pixels = np.full((1, 4, 4), value, np.float32)
        empty.keep(empty.key(pixels, (slice(0, 2),) * 2), pixels)
    assert len(empty.known) == empty.MOST
    assert empty.key(noise(1, 4, 4), (slice(0, 2),) * 2) is None
    assert empty.key(np.full((1, 4, 4), np.nan, np.float32), (slice(0, 2),) * 2) is None
