"""A zero-padded network that was trained on neighbouring tiles is run as it was trained, wherever it runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from grey import UNCHANGED, bars

from napari_shiftseg import SegmentSettings, UNet, UNetSpec, open_result, plan_tiles, save_model, segment, verify_tiling
from napari_shiftseg.cli import main
from napari_shiftseg.errors import ComplianceError, SettingsError, TilingError
from napari_shiftseg.events import drain
from napari_shiftseg.network import Clustering, Limits, Model, ModelRecord
from napari_shiftseg.segmentation import decide, view_steps
from napari_shiftseg.segmentation.lazy import lazy_embedding

ON_CPU = SegmentSettings(device="cpu", keep_embedding=True)


def padded_model(window=(24, 32), **values):
    spec = UNetSpec(**{"ndim": len(window), "levels": 2, "features": 3, "embedding_dim": 2, "padding": "zero", **values})
    torch.manual_seed(1)
    record = ModelRecord(window=window, neighbours=True, normalisation=UNCHANGED, clustering=Clustering(bandwidth=0.4))
    return Model(spec=spec, module=UNet(spec).eval().requires_grad_(False), record=record, name="padded")


def as_trained(model, image):
    """Each window of the training on its own, the image filled up by reflection."""
    window, shape = model.record.window, image.shape
    pads = [(0, -n % w) for n, w in zip(shape, window, strict=True)]
    padded = np.pad(image, pads, mode="reflect")
    out = np.zeros((model.spec.out_channels, *padded.shape), np.float32)
    for place in np.ndindex(*(n // w for n, w in zip(padded.shape, window, strict=True))):
        tile = tuple(slice(p * w, (p + 1) * w) for p, w in zip(place, window, strict=True))
        out[(slice(None), *tile)] = model.module(torch.from_numpy(padded[tile])[None, None])[0].numpy()
    return out[(slice(model.spec.embedding_dim), *map(slice, shape))]


CASES = {
    "plane": ((100, 70), (24, 32), {}),
    "whole windows": ((96, 96), (24, 32), {}),
    "smaller than a window": ((14, 60), (24, 32), {}),
    "poolings by 3": ((60, 40), (18, 27), {"levels": 1, "pool": 3}),
    "volume": ((9, 30, 34), (4, 8, 16), {"pool": ((1, 2, 2), (2, 2, 2)), "convs": 1}),
}


@pytest.mark.parametrize(("shape", "window", "values"), CASES.values(), ids=CASES)
def test_the_embedding_is_that_of_each_window_on_its_own(shape, window, values):
    """> d+1 directly neighbouring tiles: the run meets those tiles and no others"""
    model = padded_model(window, **values)
    image = bars(shape)
    result = segment(image, model, ON_CPU)
    np.testing.assert_allclose(result.embedding, as_trained(model, image), rtol=1e-4, atol=1e-5)
    record = result.record
    assert record["status"] == "compliant" and record["violations"] == []
    assert record["promises"]["tile_exact"] == (len(result.plan) == 1) and record["promises"]["as_trained"] is True
    assert record["promises"]["functions"] == [int(np.prod(window))] * 2
    assert record["promises"]["pairs"] == [len(window) * int(np.prod(window))] * 2
    for other in (
        segment(image, model, replace(ON_CPU, deterministic=True)),
        segment(image, model, replace(ON_CPU, write=window)),
    ):
        np.testing.assert_array_equal(other.embedding, result.embedding)


def test_other_tiles_and_streams_are_refused():
    model, image = padded_model(), bars((100, 70))
    for write in (24, 32, (32, 24), 1000):
        with pytest.raises(TilingError, match="stood alone; use 24 x 32 px"):
            segment(image, model, replace(ON_CPU, write=write))
    with pytest.raises(SettingsError, match="cannot be streamed"):
        segment(image, model, replace(ON_CPU, method="stream"))
    with pytest.raises(ComplianceError, match="trained on single tiles"):
        segment(image, replace(model, record=replace(model.record, neighbours=False)), ON_CPU)


def test_context_that_no_training_had_is_allowed_on_request_and_marked():
    model, image = padded_model(), bars((100, 70))
    result = segment(image, model, replace(ON_CPU, write=32, allow_noncompliant=True))
    assert result.record["status"] == "tile-exact" and [v["rule"] for v in result.record["violations"]] == ["padding"]
    promises = result.record["promises"]
    assert promises["tile_exact"] is True and promises["as_trained"] is False and promises["functions"][0] == 0
    whole = segment(image, model, replace(ON_CPU, write=1000, allow_noncompliant=True))
    np.testing.assert_allclose(result.embedding, whole.embedding, atol=1e-4)
    assert np.abs(result.embedding - as_trained(model, image)).max() > 0.01


@pytest.mark.parametrize("embedding", [True, False])
def test_blocks_out_of_core_are_the_run_in_memory(tmp_path, monkeypatch, embedding):
    monkeypatch.setattr("napari_shiftseg.segmentation.layout.LARGEST", {2: 512, 3: 128})
    model, image = padded_model((40, 64), foreground=True), bars((600, 530))
    wish = replace(ON_CPU, keep_embedding=embedding)
    whole = segment(image, model, wish)
    large = replace(wish, out_of_core=True, memory=1 << 30)
    result = segment(image, model, large, tmp_path / "r.ome.zarr")
    assert result.record["blocks"]["tasks"] > 1 and result.plan == whole.plan
    np.testing.assert_array_equal(result.labels[:], whole.labels)
    if embedding:
        np.testing.assert_array_equal(open_result(tmp_path / "r.ome.zarr").embedding[:], whole.embedding)
    assert result.record["plan"] == whole.record["plan"] and result.record["promises"] == whole.record["promises"]


def test_a_preview_and_an_embedding_on_demand_are_the_run(tmp_path):
    model, image = padded_model(foreground=True), bars((150, 130))
    whole = segment(image, model, ON_CPU)
    lazy = lazy_embedding(image, model, ON_CPU, limits=Limits(**{k: v and tuple(v) for k, v in whole.record["limits"].items()}))
    np.testing.assert_array_equal(lazy[:, 20:75, 31:97], whole.embedding[:, 20:75, 31:97])
    preview = drain(view_steps(decide(image, model, ON_CPU), {"y": slice(60, 90), "x": slice(40, 90)}))
    assert preview.plan.zeros == "tile" and preview.record["promises"] == whole.record["promises"]


def test_verifying_says_that_equality_with_one_pass_is_not_promised():
    model, image = padded_model(), bars((100, 70))
    check = verify_tiling(model, image, plan_tiles(model.spec, image.shape, trained=model.record), device="cpu")
    assert not check.ok and "compliant as trained and not tile-exact" in check.text
    exact = verify_tiling(model, image, plan_tiles(model.spec, image.shape, 16), device="cpu")
    assert exact.ok and "as trained" not in exact.text


def test_a_loss_without_zeros_is_tile_exact_and_compliant():
    model, image = padded_model(), bars((130, 90))
    model = replace(model, record=replace(model.record, window=(96, 96), neighbours=False, inner=(48, 48)))
    results = [segment(image, model, replace(ON_CPU, write=write)) for write in (None, 16, (40, 24), 1000)]
    for result in results:
        np.testing.assert_allclose(result.embedding, results[0].embedding, atol=1e-4)
        assert result.record["status"] == "compliant"
        assert result.record["promises"] == {"tile_exact": True, "as_trained": True, "functions": [16, 16], "pairs": [32, 32]}
        assert verify_tiling(model, image, result.plan, device="cpu").ok
    # what lies beyond the image is its reflection
    around = [(48, 48 - n % 4 + 4) for n in image.shape]
    with torch.no_grad():
        whole = model.module(torch.from_numpy(np.pad(image, around, mode="reflect"))[None, None])[0].numpy()
    np.testing.assert_allclose(results[0].embedding, whole[:, 48 : 48 + 130, 48 : 48 + 90], atol=1e-4)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    model = save_model(tmp_path / "padded.safetensors", padded_model(foreground=True))
    tifffile.imwrite(tmp_path / "image.tif", bars((100, 70)))
    return str(model), str(tmp_path / "image.tif"), tmp_path


def said(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def test_the_command_keeps_the_two_promises_apart(files, capsys):
    model, image, folder = files
    code, text = said(capsys, "check", "--model", model, "--image", image)
    assert code == 0 and "768 of 768 functions, 1536 of 1536 pairs" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "tile-exact no" in lines and "as trained yes: 768 of 768 functions, 1536 of 1536 pairs" in lines
    code, text = said(capsys, "check", "--model", model, "--image", image, "--tile", 32)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert code == 3 and "tile-exact yes" in lines and any(line.startswith("as trained no: 0 of ") for line in lines)
    code, text = said(capsys, "segment", image, "--model", model, "--out", folder / "r.ome.zarr", "--device", "cpu")
    assert code == 0 and "compliant as trained, not tile-exact" in text
    assert open_result(folder / "r.ome.zarr").record["promises"]["tile_exact"] is False
    code, text = said(capsys, "verify", image, "--model", model, "--device", "cpu")
    assert code == 3 and "not tile-exact" in text
    assert said(capsys, "segment", image, "--model", model, "--tile", 32, "--out", folder / "s.ome.zarr")[0] in (2, 3)


def test_check_prints_both_counts_of_every_bundled_model(capsys):
    for name, counts in (
        ("nuclei", "64 of 64 functions, 128 of 128 pairs"),
        ("disks-fig3", "256 of 256 functions, 512 of 512 pairs"),
        ("disks-fig3a", "256 of 256 functions, 480 of 512 pairs"),
    ):
        code, text = said(capsys, "check", "--model", name)
        assert counts in text and code == (3 if name == "disks-fig3a" else 0)
        code, text = said(capsys, "check", "--model", name, "--json")
        document = json.loads(text)
        numbers = [int(word) for word in counts.replace(",", "").split() if word.isdigit()]
        assert [*document["promises"]["functions"], *document["promises"]["pairs"]] == numbers
