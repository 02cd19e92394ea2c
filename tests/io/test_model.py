"""Model files: what was saved comes back, and nothing else is taken for a model."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_shiftseg import Output, UNet, UNetSpec, load_model, save_model
from napari_shiftseg.errors import ModelError
from napari_shiftseg.io import bundled_models
from napari_shiftseg.network import Clustering, Model, ModelRecord, Normalisation

SPEC = UNetSpec(levels=2, pool=((1, 2), (2, 2)), features=2, foreground=True, batch_norm=True, decoder_convs=1)
RECORD = ModelRecord(
    window=(12, 24),
    steps=10,
    data="disks",
    losses={"loss": 0.5},
    settings={"learning_rate": 1e-3},
    normalisation=Normalisation(low=2),
    clustering=Clustering(bandwidth=1.5),
)


def net(spec=SPEC, seed=0):
    torch.manual_seed(seed)
    return UNet(spec).eval()


def metadata_of(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_network_record_and_output_come_back(tmp_path):
    module = net()
    path = save_model(tmp_path / "disks.safetensors", Model(spec=SPEC, module=module, record=RECORD))
    model = load_model(path)
    assert (model.spec, model.record, model.name) == (SPEC, RECORD, "disks")
    assert model.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not model.module.training and next(model.module.parameters()).dtype == torch.float32
    x = torch.rand(1, 1, *SPEC.input_size((6, 8)))
    assert torch.equal(model.module(x), module(x))


def test_a_bare_network_has_no_record(tmp_path):
    path = save_model(tmp_path / "bare", net())
    assert path.name == "bare.safetensors"
    assert load_model(path).record is None
    assert load_model(save_model(tmp_path / "with", net(), RECORD)).record == RECORD
    assert load_model(str(path)).spec == SPEC


def test_half_precision_halves_the_file(tmp_path):
    spec = UNetSpec(levels=2, features=16)
    module = net(spec)
    full = save_model(tmp_path / "full", module)
    half = save_model(tmp_path / "half", module, half=True)
    assert half.stat().st_size < 0.55 * full.stat().st_size
    loaded = load_model(half).module
    assert next(loaded.parameters()).dtype == torch.float32
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(loaded.state_dict()[name], value, rtol=2**-10, atol=1e-7)


def test_channels_last_weights_are_saved(tmp_path):
    module = net().to(memory_format=torch.channels_last)
    loaded = load_model(save_model(tmp_path / "m", module)).module
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), loaded.parameters(), strict=True))


def test_the_same_weights_make_the_same_file(tmp_path):
    first, second = (save_model(tmp_path / name, net(), RECORD) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_nothing_but_the_file_is_left(tmp_path):
    save_model(tmp_path / "new" / "m", net())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["m.safetensors"]
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(ModelError, match="choose another place"):
        save_model(blocked / "m", net())
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(ModelError, match="choose another place"):
        save_model(folder, net())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors", "new"]


def test_an_unknown_name_lists_what_there_is(tmp_path):
    for name in ("no-such-model", tmp_path, tmp_path / "no.safetensors"):
        with pytest.raises(ModelError, match="bundled models: ") as caught:
            load_model(name)
        assert all(bundled in str(caught.value) for bundled in bundled_models())


def altered(tmp_path, *, tensors=None, drop=(), **changes):
    """A model file with other metadata or tensors."""
    path = save_model(tmp_path / "good", net(), RECORD)
    metadata = {k: v for k, v in (metadata_of(path) | changes).items() if k not in drop}
    weights = {k: v.contiguous() for k, v in load_file(path).items()} if tensors is None else tensors
    bad = tmp_path / "bad.safetensors"
    save_file(weights, bad, metadata=metadata)
    return bad


SPEC_JSON = SPEC.to_dict()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drop": ("format",)}, "no 'napari-shiftseg model 1' description"),
        ({"format": "napari-shiftseg model 99"}, "no 'napari-shiftseg model 1' description"),
        ({"drop": ("spec",)}, "does not fit its weights"),
        ({"spec": "{"}, "does not fit its weights"),
        ({"spec": "[1, 2]"}, "does not fit its weights"),
        ({"spec": "[" * 100_000}, "does not fit its weights"),
        ({"spec": "null"}, "does not fit its weights"),
        ({"spec": json.dumps(SPEC_JSON | {"depth": 3})}, "does not fit"),
        ({"spec": json.dumps(SPEC_JSON | {"features": 3})}, "does not fit its weights"),
        ({"spec": json.dumps(SPEC_JSON | {"features": "many"})}, "does not fit its weights"),
        ({"spec": json.dumps(SPEC_JSON | {"growth": 10**30})}, "does not fit its weights"),
        ({"record": "{}"}, "does not fit"),
        ({"record": "[]"}, "does not fit"),
        ({"record": "7"}, "does not fit"),
        ({"tensors": {"a": torch.zeros(3)}}, "does not fit its weights"),
        ({"outputs": "7"}, "does not fit its weights"),
        ({"outputs": "[null]"}, "does not fit its weights"),
        (
            {"outputs": json.dumps([{"name": "embedding", "channels": [0, 99]}])},
            r"in channels 0 to 98, and the network has \d+,",
        ),
        ({"outputs": json.dumps([{"name": "embedding", "channels": [-1, 2]}])}, "give a slice with an end"),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_a_file_that_does_not_describe_itself_is_refused_in_one_sentence(tmp_path, changes, said):
    path = altered(tmp_path, **changes)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 pickled", b"\x80\x04\x95", b"\xff" * 64], ids=["empty", "zip", "pickle", "noise"]
)
def test_other_files_are_not_opened_as_models(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_model(path)


def test_a_pickle_is_never_loaded(tmp_path):
    """A foreign checkpoint could run code."""
    path = tmp_path / "net.pt"
    torch.save(net(), path)
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_model(path)


def test_outputs_by_other_names_or_places_than_the_spec_says_come_back(tmp_path):
    """A worker reads the network from its file: with the foreground taken for a code, its labels would be others."""
    spec = UNetSpec(levels=1, convs=1, features=2, embedding_dim=3, foreground=True)
    outputs = (
        Output(name="foreground", channels=slice(0, 1), activation="sigmoid", meaning="probability"),
        Output(name="embedding", channels=slice(2, 4)),
    )
    model = Model(module=UNet(spec), outputs=outputs)
    assert load_model(save_model(tmp_path / "mine", model)).outputs == model.outputs
    assert load_model(save_model(tmp_path / "plain", model.module)).outputs == spec.outputs


def test_outputs_beyond_the_channels_of_a_network_are_refused():
    spec = UNetSpec(levels=1, convs=1, features=2, embedding_dim=3)
    model = Model(module=UNet(spec), outputs=(Output(name="embedding", channels=slice(1, 3)),))
    with pytest.raises(ModelError, match="'embedding' is said to be in channels 1 to 3, and the network has 3"):
        replace(model, outputs=(Output(name="embedding", channels=slice(1, 4)),))


def test_a_module_that_is_no_unet_is_not_written(tmp_path):
    with pytest.raises(ModelError, match="a Conv2d was given, and only a UNet can be written"):
        save_model(tmp_path / "x", torch.nn.Conv2d(1, 3, 3))
