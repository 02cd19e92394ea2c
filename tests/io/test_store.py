"""Stores that others wrote: no codec runs that could run code, nothing goes missing unseen, what is damaged is a sentence."""

import json
import os
import pickle
import shutil
import socket
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_shiftseg import cli, open_result, read_image
from napari_shiftseg.errors import OutOfMemoryError, ShiftsegError
from napari_shiftseg.io import save_result
from napari_shiftseg.io.image import Image

PIXELS = np.arange(1, 64 * 64 + 1, dtype=np.uint16).reshape(64, 64)
RECORD = {"plan": {"result_shape": [64, 64], "period": [8, 8], "seams": [[32], [32]]}}


@pytest.fixture
def plain(tmp_path):
    """A zarr array of 16 chunks, none of which is the fill value alone."""
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(64, 64), chunks=(16, 16), dtype="u2")[...] = PIXELS
    return path


@pytest.fixture
def result(tmp_path):
    """A saved result."""
    labels = np.repeat(np.arange(64), 64).reshape(64, 64)
    codes = np.random.default_rng(0).random((2, 64, 64), np.float32)
    settings = {"axes": "yx", "record": RECORD, "image": Image.from_array(PIXELS), "embedding": codes}
    return save_result(tmp_path / "r.zarr", labels=labels, **settings)


class Mark:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def version_2(path, marker, **values):
    """An array of version 2 with a pickle in its chunk."""
    path.mkdir(parents=True)
    described = {"zarr_format": 2, "shape": [1, 1], "chunks": [1, 1], "dtype": "|O", "fill_value": None, "order": "C"}
    described |= {"compressor": None, "filters": [{"id": "pickle", "protocol": 5}], **values}
    (path / ".zarray").write_text(json.dumps(described))
    (path / "0.0").write_bytes(pickle.dumps(np.array([[Mark(marker)]], object)))


EVIL = {
    "objects": {},
    "numbers": {"dtype": "<u2"},
    "as compressor": {"dtype": "<u2", "compressor": {"id": "pickle"}, "filters": None},
    "JSON of objects": {"filters": [{"id": "json2", "encoding": "utf-8"}]},
    "msgpack": {"dtype": "<u2", "filters": [{"id": "msgpack2"}]},
    "by another name": {"dtype": "<u2", "filters": [{"id": "numcodecs.pickle"}]},
    "a record": {"dtype": [["a", "<u2"], ["b", "|O"]]},
}


@pytest.mark.parametrize("values", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("where", ["an image", "labels of a result", "the embedding", "the table of a result"])
def test_no_codec_is_made_that_could_run_code(result, tmp_path, monkeypatch, capsys, where, values):
    import numcodecs
    import numcodecs.registry

    marker, place = tmp_path / "marker", tmp_path / "evil"
    if where != "an image":
        folder = {"labels of a result": "labels/instances/0", "the embedding": "embedding/0"}.get(where, "objects/index")
        place = result / folder
        shutil.rmtree(place, ignore_errors=True)
    if where == "the table of a result":
        (result / "objects").mkdir()
        (result / "objects/zarr.json").write_text(
            json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"columns": ["index"]}})
        )
    version_2(place, marker, **values)
    if where == "labels of a result" or where == "the embedding":  # a group of version 2, whose arrays are as well
        group = place.parent
        ome = json.loads((group / "zarr.json").read_text())["attributes"]
        (group / "zarr.json").unlink()
        (group / ".zgroup").write_text('{"zarr_format": 2}')
        (group / ".zattrs").write_text(json.dumps(ome))

    def made(config):
        raise AssertionError(f"a codec was made of {config}")

    monkeypatch.setattr(numcodecs, "get_codec", made)
    monkeypatch.setattr(numcodecs.registry, "get_codec", made)
    with pytest.raises(ShiftsegError):
        if where == "an image":
            read_image(place).data[...]
        elif where == "the table of a result":
            open_result(result).objects()
        else:
            opened = open_result(result)
            _ = opened.labels[...], opened.embedding[...]
    assert not marker.exists()
    if where != "an image" and where != "the table of a result":
        assert cli.main(["seams", str(result)]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and not marker.exists()


def edit(path, **values):
    """Change the description of an array."""
    described = json.loads((path / "zarr.json").read_text())
    for name, value in values.items():
        described[name] = value(described[name]) if callable(value) else value
    (path / "zarr.json").write_text(json.dumps(described))


def grid(*shape):
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


BROKEN = {
    "chunks of 0": lambda path: edit(path, chunk_grid=grid(0, 16)),
    "chunks below 0": lambda path: edit(path, chunk_grid=grid(-16, 16)),
    "chunks of other axes": lambda path: edit(path, chunk_grid=grid(16)),
    "no chunks": lambda path: edit(path, chunk_grid={}),
    "a shape below 0": lambda path: edit(path, shape=[-64, 64]),
    "a shape in words": lambda path: edit(path, shape=["many", 64]),
    "no shape": lambda path: edit(path, shape=None),
    "strings": lambda path: edit(path, data_type="string"),
    "times": lambda path: edit(path, data_type={"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}),
    "an unknown type": lambda path: edit(path, data_type="uint16\x1b[31m"),
    "an unknown codec": lambda path: edit(path, codecs=[{"name": "bytes"}, {"name": "secret"}]),
    "pickles of version 3": lambda path: edit(path, codecs=[{"name": "numcodecs.pickle"}]),
    "no JSON": lambda path: (path / "zarr.json").write_text("{"),
    "deep JSON": lambda path: (path / "zarr.json").write_text("[" * 100_000),
    "a list": lambda path: (path / "zarr.json").write_text("[1]"),
    "nothing": lambda path: (path / "zarr.json").write_text(""),
    "a short chunk": lambda path: (path / "c/1/1").write_bytes((path / "c/1/1").read_bytes()[:7]),
    "an empty chunk": lambda path: (path / "c/1/1").write_bytes(b""),
    "a chunk of garbage": lambda path: (path / "c/1/1").write_bytes(os.urandom(300)),
    "a chunk that grows": lambda path: (path / "c/1/1").write_bytes(bytes(1 << 22)),
}
if hasattr(os, "mkfifo"):
    BROKEN["a pipe for a chunk"] = lambda path: ((path / "c/1/1").unlink(), os.mkfifo(path / "c/1/1"))
    BROKEN["a chunk without end"] = lambda path: ((path / "c/1/1").unlink(), (path / "c/1/1").symlink_to("/dev/zero"))
    BROKEN["a pipe for metadata"] = lambda path: ((path / "zarr.json").unlink(), os.mkfifo(path / "zarr.json"))


@pytest.mark.parametrize("harm", BROKEN.values(), ids=BROKEN)
def test_a_damaged_array_is_a_sentence(plain, tmp_path, capsys, monkeypatch, harm):
    harm(plain)
    with pytest.raises(ShiftsegError) as caught:
        read_image(plain).frames(2)[0].view[...]
    assert "\n" not in str(caught.value)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["segment", "a.zarr", "--table", "t.csv"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "\x1b" not in err and os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("part", ["labels/instances/0", "embedding/0", "0"])
@pytest.mark.parametrize("harm", [name for name in BROKEN if "chunk" not in name or "chunks" in name])
def test_a_damaged_result_is_a_sentence(result, capsys, part, harm):
    BROKEN[harm](result / part)
    code = cli.main(["seams", str(result)])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and "\x1b" not in err


@pytest.mark.parametrize(
    "record", [None, [], "x", {"plan": None}, {"plan": {"result_shape": [64, 64]}}, {**RECORD, "plan": [1]}], ids=repr
)
def test_a_record_that_is_none_is_a_sentence(result, capsys, record):
    described = json.loads((result / "zarr.json").read_text())
    described["attributes"]["napari-shiftseg"]["record"] = record
    (result / "zarr.json").write_text(json.dumps(described))
    assert cli.main(["seams", str(result)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("period", [[10**9, 10**9], [10**30, 8], [0, 8], [-8, 8], [8], "x", [None, 8]], ids=repr)
def test_a_period_that_is_none_is_a_sentence_or_an_answer_at_once(result, capsys, period):
    described = json.loads((result / "zarr.json").read_text())
    described["attributes"]["napari-shiftseg"]["record"]["plan"]["period"] = period
    (result / "zarr.json").write_text(json.dumps(described))
    code = cli.main(["seams", str(result)])
    err = capsys.readouterr().err
    assert (code == 2 and err.count("\n") == 1) or (code in (0, 3) and not err)


def test_a_chunk_larger_than_the_memory_is_not_read(plain, monkeypatch):
    edit(plain, shape=[10**7, 10**7], chunk_grid=grid(10**7, 10**7))
    with pytest.raises(OutOfMemoryError, match="GB"):
        read_image(plain)


# -- what goes away ---------------------------------------------------------------------------------------------------


def test_a_chunk_that_was_never_there_is_the_fill_value(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(64, 64), chunks=(16, 16), dtype="u2", fill_value=7)
    array[:16] = 1
    found = read_image(tmp_path / "a.zarr").frames(2)[0].view[...][0]
    assert (found[:16] == 1).all() and (found[16:] == 7).all()


@pytest.mark.parametrize("when", ["before the first chunk", "between two chunks"])
@pytest.mark.parametrize("what", ["all of it", "a chunk", "a row of chunks", "all chunks"])
def test_what_goes_away_is_never_read_as_zeros(plain, when, what):
    view = read_image(plain).frames(2)[0].view
    if when == "between two chunks":
        assert view[0, :4, :4].any()
    elif what != "all of it":
        pytest.skip("nobody knows what was there")
    gone = {"all of it": "", "a chunk": "c/3/3", "a row of chunks": "c/3", "all chunks": "c"}[what]
    shutil.rmtree(plain / gone) if (plain / gone).is_dir() else (plain / gone).unlink()
    with pytest.raises(ShiftsegError, match="gone"):
        view[0, 48:, 48:]


@pytest.mark.parametrize("options", [["--out-of-core"], ["--no-out-of-core"]], ids=str)
def test_a_run_whose_image_goes_away_ends_with_a_sentence(plain, tmp_path, monkeypatch, capsys, options):
    room = import_module("napari_shiftseg.network.predict")
    run = room.computed_tiles

    def away(*args, **named):
        shutil.rmtree(plain)
        yield from run(*args, **named)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, "computed_tiles", away)
    code = cli.main(["segment", "a.zarr", "--out", "r.zarr", "--method", "tiles", *options])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and "gone" in err and os.listdir(tmp_path) == []


# -- what is no file --------------------------------------------------------------------------------------------------


def bound(path):
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(path.name)
    os.chdir(here)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("make", [os.mkfifo, bound, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "socket", "zeros"])
@pytest.mark.parametrize(
    "command",
    [
        ("segment", "{}", "--table", "t.csv"),
        ("segment", "a.zarr", "--model", "{}", "--table", "t.csv"),
        ("segment", "--from", "{}", "--table", "t.csv"),
        ("seams", "{}"),
        ("seams", "r.zarr", "--truth", "{}"),
        ("verify", "{}"),
        ("probe", "{}"),
        ("info", "{}"),
        ("check", "{}"),
        ("train", "{}", "--out", "m.safetensors"),
        ("evaluate", "{}"),
    ],
    ids=" ".join,
)
def test_nobody_waits_for_a_pipe(result, plain, tmp_path, monkeypatch, capsys, command, make):
    import threading

    monkeypatch.chdir(tmp_path)
    for name in ("x", "x.json"):
        make(tmp_path / name)
    for name in ("x", "x.json") if "--from" in command else ("x",):
        done = []
        words = [word.format(name) for word in command]
        runner = threading.Thread(target=lambda words=words, done=done: done.append(cli.main(words)), daemon=True)
        runner.start()
        runner.join(30)
        assert done == [2]
        assert capsys.readouterr().err.count("\n") == 1
