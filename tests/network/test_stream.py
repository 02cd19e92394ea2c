"""A stream of strips gives what one pass over the whole image gives, and computes no row twice."""

from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_shiftseg import UNetSpec, plan_tiles, predict
from napari_shiftseg.errors import OutOfMemoryError, SettingsError
from napari_shiftseg.events import Stage, TileDone, drain
from napari_shiftseg.geometry import Pass, choose_method, describe_methods, naive_plan, plan_part, plan_stream
from napari_shiftseg.network import predict_steps, unet
from napari_shiftseg.network.device import Device, channels_last, choose_device, stream_wish
from napari_shiftseg.network.normalise import Limits
from napari_shiftseg.network.stream import StreamNet
from napari_shiftseg.network.unet import InferenceNet
from napari_shiftseg.network.windows import computed_strips

strips = import_module("napari_shiftseg.network.windows")
SPEC = UNetSpec(levels=2, features=3, foreground=True)
AS_THEY_ARE = Limits(low=(0.0,), high=(1.0,), clip=None)
SPECS = {
    "1 level": UNetSpec(levels=1, features=4, foreground=True),
    "3 levels": UNetSpec(levels=3, features=3),
    "4 levels": UNetSpec(levels=4, features=2),
    "no level": UNetSpec(levels=0, features=4, kernel=5),
    "factor 3": UNetSpec(levels=2, features=3, pool=3),
    "factors per level and axis": UNetSpec(levels=2, features=3, pool=((3, 1), (2, 4))),
    "no pooling of rows": UNetSpec(levels=2, features=3, pool=((1, 2), (1, 2))),
    "batch norm": UNetSpec(levels=2, features=3, batch_norm=True),
    "fixed": UNetSpec(levels=2, features=3, upsampling="fixed", pool=((2, 2), (3, 2))),
    "kernel 5, head 3": UNetSpec(levels=1, features=3, kernel=5, head_kernel=3),
    "one convolution up": UNetSpec(levels=2, features=3, convs=3, decoder_convs=1),
    "flat kernel": UNetSpec(levels=2, features=3, kernel=(1, 3)),
    "1D": UNetSpec(ndim=1, levels=3, features=3),
    "3D": UNetSpec(ndim=3, levels=2, features=2),
    "3D, anisotropic": UNetSpec(ndim=3, levels=2, features=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3)),
}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def streamed(net, image, plan, *, layout=torch.contiguous_format, one_step=False):
    """All columns of a plan from an image (C, *padded)."""
    out = np.empty((net.spec.out_channels, *plan.tiles.result_shape), np.float32)
    padded = torch.from_numpy(image)[None]
    for column in plan.columns:
        one = Pass.of(net.spec, [part.stop - part.start for part in column.read], column.keep)
        stream = StreamNet(net.to(memory_format=layout), one, plan.strip, layout, one_step=one_step)
        pixels = padded[(slice(None), slice(None), *column.read)][(slice(None), slice(None), *one.read)]
        for strip in plan.strips():
            y = stream.push(pixels[:, :, strip.read])
            assert (0 if y is None else y.shape[2]) == strip.write.stop - strip.write.start
            if y is not None:
                out[(slice(None), strip.write, *column.write[1:])] = y[0].numpy()
        assert stream.state_bytes <= plan.state_bytes
    return out


def whole_and_plan(spec, net, shape):
    """What the network itself gives in one pass, its input, and the plan of that."""
    tiles = plan_tiles(spec, shape, 10**6)
    (tile,) = tiles
    image = noise(1, *(part.stop for part in tile.read))
    whole = net(torch.from_numpy(image)[None])[(0, slice(None), *tile.keep)].numpy()
    return whole, image, tiles


def relative(found, wanted):
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_strips_of_any_height_equal_the_whole_image_in_each_bit(seeded_net):
    spec = UNetSpec(levels=3)
    net = seeded_net(spec)
    whole, image, tiles = whole_and_plan(spec, net, (120, 1000))
    for strip in (8, 16, 32, 64, 128, 256):
        found = streamed(InferenceNet(net, fold=False), image, plan_stream(tiles, strip=strip))
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("one_step", [False, True])
def test_each_network_equals_the_whole_image(seeded_net, name, one_step):
    spec = SPECS[name]
    if one_step and not unet.one_step_works(spec.ndim, torch.float32):
        pytest.skip("convolution and ReLU run one by one here")
    net = seeded_net(spec)
    whole, image, tiles = whole_and_plan(spec, net, {1: (203,), 2: (103, 61), 3: (37, 25, 30)}[spec.ndim])
    for layout in {torch.contiguous_format, channels_last(spec.ndim)}:
        for periods in (1, 2, 5):
            plan = plan_stream(tiles, strip=periods * spec.period[0])
            found = streamed(InferenceNet(net, fold=False), image, plan, layout=layout, one_step=one_step)
            assert relative(found, whole) < 1e-5


@pytest.mark.parametrize("name", SPECS)
def test_counted_operations_are_those_of_the_plan(seeded_net, name):
    """> no row of any layer is computed twice: the columns' halos and the image's border are all that is added."""
    spec = SPECS[name]
    net = InferenceNet(seeded_net(spec), fold=False)
    tiles = plan_tiles(spec, {1: (203,), 2: (103, 61), 3: (37, 25, 30)}[spec.ndim])
    strip, *width = (-(-20 // p) * p for p in spec.period)
    plan = plan_stream(tiles, strip=strip, width=width or None)
    image = noise(1, *(max(read.stop for read, _, _ in axis) for axis in plan.axes))
    with FlopCounterMode(display=False) as counter:
        streamed(net, image, plan)
    assert counter.get_total_flops() == plan.flops


def test_a_wide_image_takes_two_percent_more_than_an_endless_one(seeded_net):
    spec = UNetSpec(levels=1, features=2)
    plan = choose_method(plan_tiles(spec, (2048, 2048)))
    with FlopCounterMode(display=False) as counter:
        streamed(InferenceNet(seeded_net(spec), fold=False), noise(1, *(a[0][0].stop for a in plan.axes)), plan)
    assert 1.0 < counter.get_total_flops() / (spec.flops_per_pixel * 2048**2) < 1.02
    assert choose_method(plan_tiles(UNetSpec(levels=3), (8192, 8192))).redundancy < 1.02


@pytest.mark.parametrize("border", ["reflect", "valid"])
@pytest.mark.parametrize("memory", [None, 1_200_000], ids=["one column", "columns"])
def test_predicting_by_stream_equals_tiles(seeded_net, device, border, memory):
    spec = UNetSpec(levels=3, features=4, foreground=True)
    net, image = seeded_net(spec), noise(1, 1003, 517)
    plan = plan_tiles(spec, (1003, 517), border=border)
    by_tiles = drain(predict_steps(net, image, plan, device=device, method="tiles"))
    out = np.full((3, *plan.result_shape), np.nan, np.float32)
    found = drain(predict_steps(net, image, plan, device=device, method="stream", memory=memory, out=out))
    assert found.embedding is out and found.stream.counts == ((1,) if memory is None else found.stream.counts)
    assert memory is None or (found.stream.counts > (1,) and found.stream.peak_bytes <= memory)
    assert relative(out, by_tiles.embedding) < 1e-5
    np.testing.assert_allclose(found.foreground, by_tiles.foreground, atol=1e-5)


def test_columns_of_a_volume(seeded_net, device):
    spec = UNetSpec(ndim=3, levels=1, features=3)
    net, image, plan = seeded_net(spec), noise(1, 31, 60, 45), plan_tiles(spec, (31, 60, 45), 16)
    by_tiles = predict(net, image, plan, device=device, method="tiles")
    found = drain(predict_steps(net, image, plan, device=device, method="stream", memory=400_000))
    assert min(found.stream.counts) > 1 and relative(found.embedding, by_tiles) < 1e-5


def test_a_part_of_a_plan_keeps_its_phase(seeded_net):
    net, image = seeded_net(SPEC), noise(1, 90, 80)
    plan = plan_tiles(SPEC, (90, 80), 16)
    whole = predict(net, image, plan, device="cpu", method="tiles")
    for part in (plan.within((slice(20, 70), slice(33, 80))), plan_part(plan, (slice(20, 71), slice(32, 80)))):
        found = predict(net, image, part, device="cpu", method="stream")
        window = tuple(slice(o, o + n) for o, n in zip(part.origin, part.result_shape, strict=True))
        assert relative(found, whole[(slice(None), *window)]) < 1e-6


@pytest.mark.parametrize("spec", [SPEC, UNetSpec(ndim=3, levels=1, features=4)], ids=["2D", "3D"])
def test_bfloat16_differs_from_float32_as_that_of_tiles_does(seeded_net, device, spec):
    net, shape = seeded_net(spec), (70, 50, 20)[: spec.ndim]
    image, plan = noise(1, *shape), plan_tiles(spec, shape)
    exact = predict(net, image, plan, device=device, method="stream")
    rough = predict(net, image, plan, device=device, method="stream", dtype="bfloat16")
    assert 0 < np.abs(exact - rough).max() / np.ptp(exact) < 0.03
    coarse = torch.from_numpy(rough).bfloat16().float().numpy()
    assert (rough != coarse).mean() > 0.9, "the head runs in full precision"
    assert relative(rough, predict(net, image, plan, device=device, method="tiles", dtype="bfloat16")) < 0.02


class Lazy:
    """An image on disk: counts how often each pixel is read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.read = np.zeros(data.shape, int)

    def __getitem__(self, key):
        self.read[key] += 1
        return self.data[key]


@pytest.mark.parametrize("strip", [4, 20])
@pytest.mark.parametrize("rows", [5, 100])
def test_each_row_is_read_once_in_a_column(seeded_net, strip, rows):
    data = noise(1, rows, 90)
    image, tiles = Lazy(data), plan_tiles(SPEC, (rows, 90))
    plan = plan_stream(tiles, strip=strip, width=40)
    options = {"device": choose_device("cpu"), "dtype": "float32", "limits": AS_THEY_ARE}
    found = np.zeros((4, rows, 90), np.float32)
    for write, block in computed_strips(seeded_net(SPEC), image, plan, **options):
        found[(slice(None), *write)] = block
    columns = np.zeros(90, int)
    for column in plan.columns:
        start, stop = (edge - tiles.pad[1][0] for edge in (column.read[1].start, column.read[1].stop))
        columns[max(0, start) : stop] += 1
    assert (image.read == columns).all()
    np.testing.assert_allclose(found[:3], predict(seeded_net(SPEC), data, tiles, device="cpu", method="tiles"), atol=1e-5)


def test_memory_does_not_see_the_rows():
    plans = [plan_stream(plan_tiles(UNetSpec(), (rows, 1024))) for rows in (512, 65_536)]
    assert plans[0].strip == plans[1].strip and plans[0].state_bytes == plans[1].state_bytes
    whole = UNetSpec().peak_bytes((1116, 1116))
    assert plans[0].peak_bytes == plans[1].peak_bytes < 0.3 * whole
    assert plan_stream(plan_tiles(UNetSpec(), (1024, 1024)), memory=whole // 10).peak_bytes < 0.1 * whole


def test_events_cover_the_result_and_cancelling_is_not_asking_for_the_next(seeded_net):
    image, plan = Lazy(noise(1, 2600, 40)), plan_tiles(SPEC, (2600, 40))
    events = list(predict_steps(seeded_net(SPEC), image, plan, device="cpu", method="stream"))
    assert [event.done for event in events] == list(range(1, events[0].total + 1)) and len(events) > 2
    assert all(isinstance(event, TileDone) for event in events)
    rows = [event.write[0] for event in events]
    assert rows[0].start == 0 and rows[-1].stop == 2600 and all(a.stop == b.start for a, b in pairwise(rows))
    cancelled = Lazy(image.data)
    steps = predict_steps(seeded_net(SPEC), cancelled, plan, device="cpu", method="stream")
    seen = next(steps).write[0].stop
    steps.close()
    # two strips are read ahead, and a third is being read
    last = seen + plan.pad[0][1] + SPEC.margin[0] + 3 * plan_stream(plan).strip
    assert last < 1500 and not cancelled.read[:, last:].any()


def test_strips_of_plain_rows_repeat_and_equal_in_bits(seeded_net, monkeypatch):
    data = np.zeros((1, 600, 30), np.float32)
    data[:, 40:60], data[:, 300:302] = noise(1, 20, 30), noise(1, 2, 30)
    net, plan = seeded_net(SPEC), plan_stream(plan_tiles(SPEC, (600, 30)), strip=16)
    options = {"device": choose_device("cpu"), "dtype": "float32", "limits": AS_THEY_ARE}

    def run():
        pushed, push = [], StreamNet.push
        monkeypatch.setattr(StreamNet, "push", lambda self, x: pushed.append(1) or push(self, x))
        blocks = [block for _, block in computed_strips(net, data, plan, **options)]
        monkeypatch.setattr(StreamNet, "push", push)
        return np.concatenate(blocks, 1), len(pushed)

    found, some = run()
    monkeypatch.setattr(strips._PlainRows, "seen", lambda self, pixels: 0)
    wanted, all_of_them = run()
    np.testing.assert_array_equal(found, wanted)
    assert all_of_them == len(list(plan.strips())) and some < 0.7 * all_of_them


def test_auto_takes_what_costs_less(seeded_net):
    spec = UNetSpec(levels=2, features=2)
    assert choose_method(plan_tiles(spec, (2000, 1000))) is not None
    assert choose_method(plan_tiles(spec, (100, 100))) is None, "one tile: nothing is computed twice"
    assert choose_method(plan_tiles(spec, (2000, 1000), 16)) is None, "who wishes for a tile size gets tiles"
    assert choose_method(plan_tiles(spec, (2000, 1000), 16), "stream") is not None
    assert choose_method(plan_tiles(spec, (2000, 1000)), empty=0.5) is None
    assert choose_method(plan_tiles(spec, (2000, 1000)), "tiles") is None
    by_tiles, by_stream = describe_methods(spec, (2000, 1000))
    assert by_stream.chosen and by_stream.flops < by_tiles.flops
    assert plan_stream(plan_tiles(spec, (2000, 1000)), strip=32).peak_bytes < by_tiles.memory
    data = np.zeros((1, 400, 400), np.float32)
    plan = plan_tiles(spec, (400, 400), memory=1_200_000)
    data[:, :20, :20] = noise(1, 20, 20)
    assert drain(predict_steps(seeded_net(spec), data, plan, device="cpu")).stream is None, "most tiles are empty"
    assert drain(predict_steps(seeded_net(spec), noise(1, 400, 400), plan, device="cpu")).stream is not None


class Late:
    """Copies as on a GPU: what was started is waited for later."""

    overlap = 1
    log: list[str]

    def __init__(self, device):
        Late.log = []

    def there(self, block):
        return torch.from_numpy(block)

    def back(self, y):
        Late.log.append("start")
        kept = y.clone()

        def wait():
            Late.log.append("wait")
            return kept.numpy()

        return wait


@pytest.mark.parametrize("method", ["tiles", "stream"])
def test_the_next_pass_starts_before_the_last_one_is_waited_for(seeded_net, monkeypatch, method):
    net, image, plan = seeded_net(SPEC), noise(1, 900, 70), plan_tiles(SPEC, (900, 70), 40)
    expected = drain(predict_steps(net, image, plan, device="cpu", method=method))
    monkeypatch.setattr(strips, "Copies", Late)
    found = drain(predict_steps(net, image, plan, device="cpu", method=method))
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    assert Late.log[:5] == ["start", "start", "wait", "start", "wait"] and Late.log[-2:] == ["wait", "wait"]


def test_strips_are_high_on_a_gpu_as_far_as_memory_goes():
    tiles = plan_tiles(UNetSpec(levels=4), (8192, 4096))
    low, high = plan_stream(tiles), plan_stream(tiles, memory=1 << 36, tall=True)
    assert (low.strip, high.strip) == (32, 512) and high.redundancy == low.redundancy
    assert plan_stream(tiles, memory=low.peak_bytes, tall=True).peak_bytes <= low.peak_bytes
    gpu = Device(torch_device=torch.device("cuda"), kind="cuda", name="any", free=1 << 37)
    assert choose_method(tiles, **stream_wish(gpu, None)) == high
    assert stream_wish(gpu, 10**9) == {"memory": 10**9, "tall": True}
    assert choose_method(tiles, **stream_wish(choose_device("cpu"), None)) == low


def test_a_stream_becomes_narrower_where_memory_runs_out(seeded_net, monkeypatch):
    net, image, plan = seeded_net(SPEC), noise(1, 300, 700), plan_tiles(SPEC, (300, 700))
    expected = drain(predict_steps(net, image, plan, device="cpu", method="stream"))

    def narrow(net, one, *rest, **options):
        if one.read[1].stop - one.read[1].start > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return StreamNet(net, one, *rest, **options)

    monkeypatch.setattr(strips, "StreamNet", narrow)
    events = []
    found = drain(predict_steps(net, image, plan, device="cpu", method="stream"), events.append)
    np.testing.assert_allclose(found.embedding, expected.embedding, rtol=0, atol=1e-5)
    assert expected.stream.width == (700,) and found.stream.width[0] < 300
    stages = [event.text for event in events if isinstance(event, Stage)]
    now = f"strips of {found.stream.strip} rows in columns of {found.stream.width[0]} px"
    assert stages[-1] == f"memory ran out; again with {now}"
    with pytest.raises(OutOfMemoryError, match="a column of 740 px; use smaller tiles"):
        drain(predict_steps(net, image, plan, device="cpu", method=expected.stream))


def test_where_no_stream_fits_auto_takes_tiles(seeded_net, monkeypatch):
    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    net, image, plan = seeded_net(SPEC), noise(1, 2000, 200), plan_tiles(SPEC, (2000, 200), memory=2_000_000)
    expected = drain(predict_steps(net, image, plan, device="cpu"))
    monkeypatch.setattr(strips, "StreamNet", full)
    found = drain(predict_steps(net, image, plan, device="cpu"))
    assert expected.stream is not None and found.stream is None
    np.testing.assert_allclose(found.embedding, expected.embedding, rtol=0, atol=1e-5)
    with pytest.raises(OutOfMemoryError, match="a strip of"):
        drain(predict_steps(net, image, plan, device="cpu", method="stream"))


def test_what_cannot_be_streamed_is_said_and_left_to_tiles(seeded_net):
    spec = UNetSpec(levels=1, features=2)
    padded = UNetSpec(levels=1, features=2, padding="zero")
    image = noise(1, 60, 60)
    off = plan_tiles(spec, (60, 60), 17, allow_noncompliant=True)
    cases = [
        (spec, off, {}, "do not lie on one lattice"),
        (spec, naive_plan(plan_tiles(spec, (60, 60), 16), "shifted"), {}, "do not lie on one lattice"),
        (padded, plan_tiles(padded, (60, 60), 16), {}, "pads with zeros"),
        (spec, plan_tiles(spec, (60, 60), 16), {"deterministic": True}, "deterministic"),
    ]
    for network, plan, options, said in cases:
        net = seeded_net(network)
        with pytest.raises(SettingsError, match=said):
            drain(predict_steps(net, image, plan, device="cpu", method="stream", **options))
        assert drain(predict_steps(net, image, plan, device="cpu", **options)).stream is None
    with pytest.raises(SettingsError, match="method is 'magic'"):
        predict(seeded_net(spec), image, plan_tiles(spec, (60, 60)), device="cpu", method="magic")
    with pytest.raises(SettingsError, match="multiple of the period 2"):
        plan_stream(plan_tiles(spec, (60, 60)), strip=3)
