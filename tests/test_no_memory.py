"""Memory runs out, in whatever words: the run starts again with smaller tiles, or ends with a sentence and exit code 4."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED, bars
from grey import grey_model as made
from no_memory import FORMS, OTHERS, in_turn

from napari_shiftseg import SegmentSettings, cli, decide, plan_tiles, probe_period, save_model, segment, train, verify_tiling
from napari_shiftseg.errors import OutOfMemoryError
from napari_shiftseg.events import Stage, drain
from napari_shiftseg.network import TrainImage, TrainSettings, predict_steps, unet
from napari_shiftseg.segmentation import segment_steps

shift_module = import_module("napari_shiftseg.instances.mean_shift")
ON_CPU = SegmentSettings(device="cpu")
EVERY, FEW = in_turn(FORMS), in_turn({name: FORMS[name] for name in ("CUDA", "cuDNN", "CPU", "numpy")})


def grey_model(**values):
    return made(2, deep=0.5, normalisation=UNCHANGED, **values)


def no_room(monkeypatch, form, largest=0):
    """Maps of more than so many pixels fit nowhere."""
    pool = unet.POOL[2]

    def pooled(x, factor):
        if x.shape[-1] * x.shape[-2] > largest:
            raise form()
        return pool(x, factor)

    monkeypatch.setitem(unet.POOL, 2, pooled)


def no_room_for_clustering(monkeypatch, form):
    def climb(*_):
        raise form()

    monkeypatch.setattr(shift_module, "_climb", climb)


@pytest.mark.parametrize("form", **EVERY)
def test_tiles_that_nobody_wished_for_become_smaller(monkeypatch, form):
    model, image = grey_model(), bars((220, 90))
    expected = segment(image, model, replace(ON_CPU, method="tiles"))
    no_room(monkeypatch, form, 80**2)
    events = []
    steps = segment_steps(image, model, replace(ON_CPU, method="tiles"))
    found = drain(steps, events.append)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.labels.max() > 3 and max(found.plan.read) < max(expected.plan.read)
    assert any(isinstance(event, Stage) and event.text.startswith("memory ran out; again") for event in events)
    said = found.record["memory_ran_out"]
    assert said == {"before": {"tile": list(expected.plan.write)}, "after": {"tile": list(found.plan.write)}}
    assert "memory_ran_out" not in expected.record


@pytest.mark.parametrize("place", ["a series", "out of core", "a stream"])
def test_the_record_keeps_that_memory_ran_out(monkeypatch, tmp_path, place):
    """Where it did so once, the frames that follow begin with what ran; out of core a block may have had room."""
    model, image = grey_model(), bars((2, 220, 90) if place == "a series" else (220, 90))
    wish = replace(ON_CPU, method="stream" if place == "a stream" else "tiles", out_of_core=place == "out of core")
    out = tmp_path / "r.zarr" if wish.out_of_core else None
    planned = decide(image, model, wish, out)
    no_room(monkeypatch, FORMS["CPU"], 200 if place == "a stream" else 80**2)
    record = segment(image, model, wish, out).record
    said = record["memory_ran_out"]
    if place == "a stream":
        assert said["before"] == {"strip": planned.stream.strip, "width": list(planned.stream.width)}
        assert (said["after"]["strip"], said["after"]["width"]) < (planned.stream.strip, list(planned.stream.width))
    else:
        assert max(said["after"]["tile"]) < max(said["before"]["tile"])
    if place == "a series":
        assert said == {"before": {"tile": list(planned.plan.write)}, "after": {"tile": record["plan"]["write"]}}


@pytest.mark.parametrize("form", **FEW)
def test_a_stream_gives_way_to_tiles(monkeypatch, form):
    strips = import_module("napari_shiftseg.network.windows")
    model, image = grey_model(), bars((900, 90))
    plan = plan_tiles(model.spec, image.shape)
    expected = drain(predict_steps(model, image, plan, device="cpu", method="stream"))

    def full(*_, **__):
        raise form()

    monkeypatch.setattr(strips, "StreamNet", full)
    monkeypatch.setattr(import_module("napari_shiftseg.network.predict"), "choose_method", lambda *_, **__: expected.stream)
    found = drain(predict_steps(model, image, plan, device="cpu"))
    assert found.stream is None
    np.testing.assert_allclose(found.embedding, expected.embedding, rtol=0, atol=1e-4)


@pytest.fixture
def shiftseg(tmp_path, monkeypatch, capsys):
    """Run `shiftseg segment` on an image in an empty folder; gives exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", bars((120, 60)))
    save_model("model.safetensors", grey_model())

    def run(*options, beside=()):
        common = ("segment", "a.tif", *beside, "--model", "model.safetensors", "--device", "cpu", "--quiet", *options)
        code = cli.main(list(common))
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return code, err

    return run


PLACES = {"tiles": ("--method", "tiles"), "a stream": ("--method", "stream"), "out of core": ("--out-of-core",)}


@pytest.mark.parametrize("options", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("form", **FEW)
def test_a_network_that_never_fits_is_exit_code_4(shiftseg, monkeypatch, tmp_path, form, options):
    no_room(monkeypatch, form)
    code, err = shiftseg("--out", "r.ome.zarr", *options)
    assert code == 4, err
    assert err.startswith("shiftseg segment: memory ran out while computing") and err.count("\n") == 1
    assert not (tmp_path / "r.ome.zarr").exists()


@pytest.mark.parametrize("options", [(), ("--out-of-core",)], ids=["in memory", "out of core"])
@pytest.mark.parametrize("form", **FEW)
def test_clustering_without_memory_is_exit_code_4(shiftseg, monkeypatch, form, options):
    no_room_for_clustering(monkeypatch, form)
    code, err = shiftseg("--out", "r.ome.zarr", *options)
    assert code == 4 and "memory ran out while computing the instances of a window" in err


@pytest.mark.parametrize("form", **EVERY)
@pytest.mark.parametrize("place", ["network", "clustering"])
def test_out_of_core_and_in_memory_it_is_one_error(monkeypatch, tmp_path, form, place):
    model, image = grey_model(), bars((60, 60))
    (no_room if place == "network" else no_room_for_clustering)(monkeypatch, form)
    for settings in (ON_CPU, replace(ON_CPU, out_of_core=True)):
        with pytest.raises(OutOfMemoryError, match="memory ran out while computing"):
            segment(image, model, settings, tmp_path / "r.ome.zarr" if settings.out_of_core else None)


@pytest.mark.parametrize("form", **EVERY)
def test_memory_that_ends_where_nobody_looks_for_it_is_exit_code_4(shiftseg, monkeypatch, form):
    def full(*_, **__):
        raise form()

    monkeypatch.setattr("napari_shiftseg.segmentation.run.record_of", full)
    code, err = shiftseg("--out", "r.ome.zarr")
    assert code == 4 and "memory ran out" in err and "--tile" in err


@pytest.mark.parametrize("options", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("form", [param for name, param in OTHERS.items() if name != "a disk"])
def test_other_errors_of_a_network_are_not_taken_for_it(shiftseg, monkeypatch, form, options):
    no_room(monkeypatch, form)
    code, err = shiftseg("--out", "r.ome.zarr", *options)
    assert code == 70 and "mistake of this program" in err and "memory ran out" not in err
    assert str(form())[:60] in err


@pytest.mark.parametrize("form", **EVERY)
def test_a_training_without_memory(monkeypatch, form):
    spec = grey_model().spec
    no_room(monkeypatch, form)
    settings = TrainSettings(spec=spec, steps=1, batch=1, device="cpu")
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int))
    images = [TrainImage.from_arrays(bars((80, 80)), labels, settings.normalisation)]
    with pytest.raises(OutOfMemoryError, match="computing training step 0; use smaller tiles"):
        train(images, settings)


@pytest.mark.parametrize("form", **EVERY)
def test_a_probe_and_a_check_do_not_take_it_for_a_size_that_the_network_refuses(form):
    spec = grey_model().spec

    def network(x):
        raise form()

    with pytest.raises(OutOfMemoryError, match="computing a pass of the network"):
        probe_period(network, ndim=2)
    with pytest.raises(OutOfMemoryError, match="memory ran out while computing"):
        verify_tiling(network, bars((60, 60)), plan_tiles(spec, (60, 60), 16))


@pytest.mark.parametrize("form", **FEW)
def test_one_image_that_does_not_fit_does_not_stop_the_others(shiftseg, monkeypatch, tmp_path, form):
    tifffile.imwrite("small.tif", bars((40, 40)))
    tifffile.imwrite("a.tif", bars((260, 260)))
    no_room(monkeypatch, form, 100**2)
    (tmp_path / "t").mkdir()
    code, err = shiftseg("--tile", "128", "--labels-tiff", "t", beside=["small.tif"])
    assert code == 4 and "a.tif" in err and [path.name for path in (tmp_path / "t").iterdir()] == ["small.tif"]
