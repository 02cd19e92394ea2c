"""Networks that are not ours are planned, run and segmented with by their lattice alone."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from strangers import MonaiUNet, ValidUNet, shaken
from torch import nn

from napari_shiftseg import (
    Lattice,
    Output,
    SegmentSettings,
    UNet,
    UNetSpec,
    decide,
    open_result,
    plan_tiles,
    predict,
    probe_period,
    seam_report,
    segment,
    verify_tiling,
    violations,
)
from napari_shiftseg.errors import ComplianceError, ModelError, SettingsError, ShiftsegError
from napari_shiftseg.events import drain
from napari_shiftseg.geometry import plan_again
from napari_shiftseg.network import Model, ModelRecord, predict_steps
from napari_shiftseg.segmentation import view_steps

EMBEDDING = Output(name="embedding", channels=slice(0, 2))
FOREGROUND = Output(name="foreground", channels=slice(2, 3), activation="sigmoid", meaning="probability")
OUTPUTS = (EMBEDDING, FOREGROUND)

NETWORKS = {
    "monai": (MonaiUNet, {}, Lattice(period=(4, 4), reach=(12, 12))),
    "monai, deeper": (MonaiUNet, {"channels": (4, 4, 6, 6), "strides": (2, 2, 2)}, Lattice(period=(8, 8), reach=(30, 30))),
    "monai, unequal strides": (MonaiUNet, {"strides": (3, 2)}, Lattice(period=(6, 6), reach=(20, 20))),
    "valid": (ValidUNet, {}, Lattice(period=(4, 4), margin=(40, 40), smallest=(44, 44))),
}


def made(name):
    make, values, _ = NETWORKS[name]
    torch.manual_seed(1)
    return shaken(make(**values)).train()


@cache
def probed(name):
    return probe_period(made(name)).lattice


@pytest.fixture(params=NETWORKS)
def stranger(request):
    """A network, and its lattice as stated and as found."""
    return made(request.param), NETWORKS[request.param][2], probed(request.param)


def image(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def whole(net, pixels):
    """One pass of the network as it is, by its own code."""
    mode = net.training
    try:
        with torch.inference_mode():
            return net.eval()(torch.from_numpy(pixels)[None])[0].numpy()
    finally:
        net.train(mode)


def padded(pixels, plan):
    return np.pad(pixels, [(0, 0), *plan.pad], mode="reflect")


def close(found, wanted):
    return float(np.abs(found - wanted).max()) <= 1e-5 * float(np.abs(wanted).max())


@pytest.mark.parametrize("periods", [(2, 5), (8, 3)])
def test_tiles_of_a_strangers_network_equal_one_pass_of_it(stranger, periods):
    net, *lattices = stranger
    pixels = image(1, 97, 83)
    for lattice in lattices:
        plan = plan_tiles(lattice, (97, 83), tuple(n * p for n, p in zip(periods, lattice.period, strict=True)))
        assert len(plan) > 1
        tiled, reference = predict(net, pixels, plan, device="cpu"), whole(net, padded(pixels, plan))
        top, left = (axis[0][1].start for axis in plan.axes)  # the constant crop
        assert close(tiled, reference[:, top : top + 97, left : left + 83])
    assert net.training, "the network that was given is left as it is"


@pytest.mark.parametrize("found", [False, True], ids=["stated", "probed"])
def test_segment_runs_a_strangers_network_and_no_tile_size_changes_its_labels(stranger, found):
    net, lattice = stranger[0], stranger[1 + found]
    edges = [tuple(n * p for p in lattice.period) for n in (20, 8)]
    record = None if lattice.padding == "valid" else ModelRecord(window=edges[0], inner=edges[1])
    model = Model(module=net, lattice=lattice, outputs=OUTPUTS, record=record)
    wish = SegmentSettings(device="cpu", bandwidth=0.5, min_size=4)
    results = [segment(image(90, 70), model, replace(wish, write=n * lattice.period[0])) for n in (4, 40)]
    few, one = results
    assert len(few.plan) > 1 == len(one.plan)
    assert close(few.embedding, one.embedding) and close(few.foreground, one.foreground)
    assert few.embedding.shape == (2, 90, 70) and 0 <= few.foreground.min() <= few.foreground.max() <= 1
    assert few.labels.max() > 0 and (few.labels == one.labels).mean() > 0.999


def test_a_padded_stranger_of_which_no_training_is_known_is_no_compliant_one_and_runs_where_that_is_allowed():
    net = shaken(MonaiUNet())
    model = Model(module=net, lattice=NETWORKS["monai"][2], outputs=OUTPUTS)
    with pytest.raises(ComplianceError, match="pads with zeros"):
        segment(image(64, 64), model, SegmentSettings(device="cpu"))
    settings = SegmentSettings(device="cpu", write=16, bandwidth=0.5, min_size=1, allow_noncompliant=True)
    assert close(segment(image(64, 64), model, settings).embedding, whole(net, image(1, 64, 64))[:2])


def test_what_the_probe_finds_is_checked_by_verify_and_judged_by_the_rules(stranger):
    net, stated, lattice = stranger
    assert (lattice.period, lattice.margin, lattice.padding) == (stated.period, stated.margin, stated.padding)
    assert all(seen <= most for seen, most in zip(lattice.reach, stated.reach, strict=True))
    plan = plan_tiles(lattice, (97, 83), 6 * lattice.period[0])
    assert verify_tiling(net, image(1, 97, 83), plan, device="cpu").ok
    assert {v.rule for v in violations(plan)} <= {"padding"}
    short = plan_tiles(replace(lattice, reach=(0, 0)), (97, 83), 6 * lattice.period[0]) if lattice.padding == "zero" else None
    if short is not None:
        assert not verify_tiling(net, image(1, 97, 83), short, device="cpu").ok, "less context than a pixel sees must show"


def test_a_volume_a_function_and_many_channels_are_no_other_case():
    torch.manual_seed(0)
    net = shaken(MonaiUNet(ndim=3, source=2, channels=(3, 4), strides=(2,))).eval().requires_grad_(False)
    lattice = Lattice(ndim=3, period=(2, 2, 2), reach=(6, 6, 6), in_channels=2)
    pixels = image(2, 24, 20, 28)
    plan = plan_tiles(lattice, (24, 20, 28), (8, 12, 8))
    assert close(predict(lambda x: net(x), pixels, plan, device="cpu"), whole(net, pixels))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_any_format_run_in_the_format_that_is_wished(dtype):
    net = shaken(MonaiUNet()).eval()
    pixels, plan = image(1, 64, 64), plan_tiles(Lattice(period=(4, 4), reach=(12, 12)), (64, 64), 16)
    wanted = whole(MonaiUNet.float(net), pixels)
    found = predict(net.to(dtype), pixels, plan, device="cpu")
    assert (
        found.dtype == np.float32
        and np.abs(found - wanted).max() <= (1e-5 if dtype is torch.float64 else 0.05) * np.abs(wanted).max()
    )
    assert next(net.parameters()).dtype is dtype


def test_images_smaller_than_the_smallest_input_are_filled_up():
    net = shaken(MonaiUNet()).eval()

    def fastidious(x):
        assert min(x.shape[2:]) >= 48, "too small"
        return net(x)

    for shape in ((5, 9), (47, 100), (130, 20)):
        plan = plan_tiles(Lattice(period=(4, 4), reach=(12, 12), smallest=(48, 48)), shape, 8)
        pixels = image(1, *shape)
        reference = whole(net, padded(pixels, plan))[:, : shape[0], : shape[1]]
        assert close(predict(fastidious, pixels, plan, device="cpu"), reference)


def test_an_output_larger_than_stated_is_cropped_to_its_centre():
    """So a padded network can be taken as a valid one that loses what sees zeros."""
    net = shaken(MonaiUNet()).eval()
    plan = plan_tiles(Lattice(period=(4, 4), margin=(24, 24), reach=(12, 12)), (60, 60), 12)
    assert violations(plan) == ()
    pixels = image(1, 60, 60)
    found, inside = predict(net, pixels, plan, device="cpu"), (slice(None), slice(12, -12), slice(12, -12))
    assert close(found[inside], whole(net, pixels)[inside])


class Flooring(nn.Module):
    """Takes any size: what a pooling does not divide is left out."""

    def __init__(self):
        super().__init__()
        self.fine, self.deep, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(8, 3, 3)
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x):
        x = self.fine(x).relu()
        y = self.up(self.deep(nn.functional.max_pool2d(x, 2)).relu())
        top, left = ((a - b) // 2 for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
        return self.last(torch.cat([x[:, :, top : top + y.shape[2], left : left + y.shape[3]], y], 1))


KINDS = {
    "one padded layer": (lambda: nn.Conv2d(1, 3, 3, padding=1), (0, 0)),
    "one pixel": (lambda: nn.Conv2d(1, 3, 1), (0, 0)),
    "dilated, of odd margin": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, dilation=3), nn.ReLU(), nn.Conv2d(4, 3, 2)), (7, 7)),
    "padded on one axis": (lambda: nn.Sequential(nn.Conv2d(1, 4, (3, 1)), nn.Conv2d(4, 3, 3, padding=(0, 1))), (4, 2)),
    "any size": (Flooring, (8, 8)),
    "scripted": (lambda: torch.jit.script(MonaiUNet()), (0, 0)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_finds_a_lattice_by_which_tiles_equal_one_pass(kind):
    make, margin = KINDS[kind]
    torch.manual_seed(0)
    net = make()
    lattice = probe_period(net).lattice
    assert lattice.margin == margin
    plan, pixels = plan_tiles(lattice, (61, 50), tuple(4 * period for period in lattice.period)), image(1, 61, 50)
    assert len(plan) > 9 and verify_tiling(net, pixels, plan, device="cpu").ok


# -- what is missing --------------------------------------------------------------------------------------------------


class Averaging(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.inside = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), layer)

    def forward(self, x):
        return self.inside(x)


@pytest.mark.parametrize(
    "layer",
    [nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(16), nn.BatchNorm2d(4, track_running_stats=False)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_depends_on_the_tile_is_named(layer):
    lattice = Lattice(period=(1, 1), reach=(1, 1))
    with pytest.raises(ModelError, match=f"'inside.1' .{type(layer).__name__}. .* depends on all pixels"):
        predict(Averaging(layer), image(1, 32, 32), plan_tiles(lattice, (32, 32), 16), device="cpu")


def test_statistics_of_the_training_are_constants_and_one_tile_needs_none():
    lattice, pixels = Lattice(period=(1, 1), reach=(1, 1)), image(1, 32, 32)
    kept = Averaging(nn.InstanceNorm2d(4, track_running_stats=True))
    assert close(predict(kept, pixels, plan_tiles(lattice, (32, 32), 8), device="cpu"), whole(kept, pixels))
    free = Averaging(nn.InstanceNorm2d(4))
    assert close(predict(free, pixels, plan_tiles(lattice, (32, 32), 32), device="cpu"), whole(free, pixels))


LATTICE = Lattice(period=(4, 4), reach=(12, 12))


def wrong(kind):
    net = MonaiUNet(target=3)
    return {
        "a list": lambda x: [net(x)],
        "no batch": lambda x: net(x)[0],
        "half the size": lambda x: net(x)[..., ::2, ::2],
        "twice the size": lambda x: nn.functional.interpolate(net(x), scale_factor=2),
        "one pixel less": lambda x: net(x)[..., 1:],
        "other channels": MonaiUNet(target=5),
        "attributes": lambda x: x.shapes,
        "refusal": ValidUNet(levels=3),
        "in channels": MonaiUNet(source=3),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "a list",
        "no batch",
        "half the size",
        "twice the size",
        "one pixel less",
        "other channels",
        "attributes",
        "refusal",
        "in channels",
    ],
)
def test_a_network_that_does_not_do_what_was_stated_gets_one_sentence(kind):
    model = Model(module=wrong(kind), lattice=LATTICE, outputs=OUTPUTS)
    settings = SegmentSettings(device="cpu", write=16, allow_noncompliant=True)
    with pytest.raises(ModelError, match=r"lattice states|does not take an input") as caught:
        segment(image(40, 40), model, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"outputs": OUTPUTS}, "give a lattice"),
        ({"lattice": LATTICE}, "give outputs"),
        ({"lattice": (8, 8), "outputs": OUTPUTS}, "give a lattice"),
        ({"lattice": LATTICE, "outputs": (EMBEDDING, EMBEDDING)}, "a name of its own"),
        ({"lattice": LATTICE, "outputs": ("embedding",)}, "give one Output or more"),
        ({"module": 3, "lattice": LATTICE, "outputs": OUTPUTS}, "give a Module or a callable"),
    ],
)
def test_a_model_that_lacks_something_says_what(values, says):
    with pytest.raises(ShiftsegError, match=says):
        Model(**{"module": MonaiUNet(), **values})


def test_what_segment_cannot_do_with_a_stranger_is_said(tmp_path):
    net, wish = MonaiUNet(), SegmentSettings(device="cpu", allow_noncompliant=True)
    with pytest.raises(ModelError, match=r"Model\(module=..., lattice=..., outputs=...\)"):
        segment(image(40, 40), net)
    with pytest.raises(ModelError, match="named 'embedding', and the model has foreground"):
        segment(image(40, 40), Model(module=net, lattice=LATTICE, outputs=(FOREGROUND,)), wish)
    model = Model(module=net, lattice=LATTICE, outputs=OUTPUTS)
    with pytest.raises(SettingsError, match="stream"):
        segment(image(40, 40), model, replace(wish, method="stream"))
    with pytest.raises(ModelError, match="only a UNet can be written to a file"):
        segment(image(40, 40), model, replace(wish, out_of_core=True), tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda y: (y, y), "tuple"),
        (lambda y: {"out": y}, "dict"),
        (lambda y: y.numpy(), "ndarray"),
        (lambda y: None, "NoneType"),
    ],
)
def test_the_probe_names_what_is_no_tensor(answer, kind):
    net = ValidUNet().requires_grad_(False)
    with pytest.raises(ModelError, match=f"the network gives a {kind}"):
        probe_period(lambda x: answer(net(x)))


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ((("embedding", 0, 2, "value"),), "give 'code' or 'offset'"),
        ((("embedding", 0, 1, "probability"),), "give 'code' or 'offset'"),
        ((("embedding", 0, 2, "code"), ("foreground", 2, 3, "code")), "meaning 'probability'"),
        ((("embedding", 0, 1, "code"), ("foreground", 1, 3, "probability")), "has 2 channels"),
        ((("embedding", 0, 1, "offset"),), "1 channels of offsets, for 2 axes"),
    ],
)
def test_outputs_that_no_clustering_can_read_are_refused_before_anything_runs(outputs, says):
    with pytest.raises(ShiftsegError, match=says):
        Model(
            module=MonaiUNet(),
            lattice=LATTICE,
            outputs=[Output(name=name, channels=slice(start, stop), meaning=meaning) for name, start, stop, meaning in outputs],
        )


def test_a_stranger_is_refused_out_of_core_before_a_file_is_made(tmp_path):
    """Else the folder of the failed run would draw the next one out of core, too."""
    model = Model(module=shaken(ValidUNet()), lattice=NETWORKS["valid"][2], outputs=OUTPUTS)
    settings = SegmentSettings(device="cpu", bandwidth=0.5)
    with pytest.raises(ModelError, match="out of core"):
        segment(image(40, 40), model, replace(settings, out_of_core=True), tmp_path / "out.zarr")
    assert not list(tmp_path.iterdir())
    assert segment(image(40, 40), model, settings, tmp_path / "out.zarr").path.exists()


@pytest.mark.parametrize("values", [{"ndim": 2.0}, {"ndim": True}, {"in_channels": True}, {"in_channels": 1.0}])
def test_numbers_of_a_lattice_are_whole(values):
    with pytest.raises(SettingsError, match=f"{next(iter(values))} is "):
        Lattice(**{"period": 4, "reach": 3, **values})


def test_a_plan_for_other_sizes_is_refused_and_one_for_the_same_sizes_runs():
    spec = UNetSpec(levels=2, features=3)
    torch.manual_seed(0)
    net, pixels = UNet(spec).eval(), image(1, 50, 50)
    ours = predict(net, pixels, plan_tiles(spec, (50, 50), 16), device="cpu")
    same = replace(spec.lattice, spec=None)
    assert np.array_equal(predict(net, pixels, plan_tiles(same, (50, 50), 16), device="cpu"), ours)
    assert np.array_equal(predict(Model(module=net), pixels, plan_tiles(same, (50, 50), 16), device="cpu"), ours)
    for other in (LATTICE, replace(same, margin=(38, 38)), replace(same, in_channels=2)):
        with pytest.raises(ModelError, match="made for another network"):
            predict(net, pixels, plan_tiles(other, (50, 50), 16), device="cpu")


def test_outputs_go_by_name_whatever_their_order():
    """Swapped channels: the foreground comes first, and a third output in between."""
    torch.manual_seed(0)
    net = shaken(MonaiUNet(target=5)).eval()
    outputs = (
        Output(name="flow", channels=slice(1, 3), meaning="value"),
        Output(name="foreground", channels=slice(0, 1), activation="sigmoid", meaning="probability"),
        Output(name="embedding", channels=slice(3, 5)),
    )
    pixels, plan = image(1, 40, 40), plan_tiles(LATTICE, (40, 40), 8)
    model = Model(module=net, lattice=LATTICE, outputs=outputs)
    into = {"foreground": np.zeros((40, 40), np.float32)}
    found = drain(predict_steps(model, pixels, plan, device="cpu", out=into))
    raw = whole(net, pixels)
    assert list(found.outputs) == ["flow", "foreground", "embedding"]
    assert close(found.outputs["flow"], raw[1:3]) and close(found.embedding, raw[3:5])
    assert close(found.foreground, 1 / (1 + np.exp(-raw[0]))) and found.foreground is into["foreground"]
    with pytest.raises(ModelError, match="does not give; name flow or foreground or embedding"):
        drain(predict_steps(model, pixels, plan, device="cpu", out={"bandwidth": into["foreground"]}))


def test_a_network_without_a_period_has_no_lattice():
    class Mean(nn.Module):
        def forward(self, x):
            return x - x.mean()

    with pytest.raises(ModelError, match=r"no tested shift|sees farther"):
        probe_period(Mean()).lattice  # noqa: B018


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tiles_of_a_stranger_equal_one_pass_on_a_gpu(stranger):
    net, _, lattice = stranger
    plan = plan_tiles(lattice, (97, 83), 8 * lattice.period[0])
    assert verify_tiling(net, image(1, 97, 83), plan, device="cuda").ok


# -- afterwards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["valid", "monai"])
def test_records_seams_and_drawn_parts_of_a_strangers_result_are_like_any_others(name, tmp_path):
    model = Model(module=made(name), lattice=NETWORKS[name][2], outputs=OUTPUTS)
    wish = SegmentSettings(device="cpu", write=16, bandwidth=0.5, min_size=4, allow_noncompliant=True)
    result = segment(image(90, 70), model, wish)
    stored = open_result(result.save(tmp_path / "result.zarr"))
    for record in (result.record, stored.record):
        assert plan_again(None, json.loads(json.dumps(record["plan"]))) == result.plan
        assert record["model"]["spec"] is None
    reports = [seam_report(result.embedding, plan) for plan in (result.plan, stored.record)]
    assert reports[0].ratio == reports[1].ratio and reports[0].seams == sum(map(len, result.plan.seams()))
    job = decide(image(90, 70), model, wish, None)
    assert job.plan == result.plan
    part = drain(view_steps(job, {"y": slice(20, 60), "x": slice(0, 70)})).labels
    assert np.array_equal(part[20:60] > 0, result.labels[20:60] > 0)
