"""Several images in one command: each is done, each that fails is named, and no result takes the place of another."""

import json
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import tifffile
from grey import UNCHANGED
from grey import grey_model as made

from napari_shiftseg import cli, save_model
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.io import names_of


@pytest.fixture
def batch(tmp_path, monkeypatch, capsys):
    """Segment files in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model" / "m.safetensors"
    save_model(model, made(2, deep=0.5, normalisation=UNCHANGED))

    def run(*arguments):
        code = cli.main(["segment", *map(str, arguments), "--model", str(model), "--device", "cpu", "--quiet"])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def draw(path, count=1):
    """An image with so many bars."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((60, 60), np.float32)
    for k in range(count):
        picture[8:52, 4 + 11 * k : 10 + 11 * k] = 1
    tifffile.imwrite(path, picture)
    return path


def bad_files():
    """Files that fail in different rooms: no image, too many axes, no network for it, no such file, an unreadable store."""
    Path("notes.txt").write_text("x")
    Path("._a.tif").write_bytes(b"\0\5\x16\7" + bytes(60))
    Path("cut.tif").write_bytes(Path(draw("whole.tif")).read_bytes()[:200])
    np.save("flat.npy", np.zeros((5,), np.float32))
    np.save("words.npy", np.array(["a", "b"]))
    Path("store.zarr").mkdir()
    return ["notes.txt", "._a.tif", "cut.tif", "flat.npy", "words.npy", "store.zarr", "absent.tif"]


AMONG = {
    "labels": ["d", "--labels-tiff", "d"],
    "pictures": ["d", "--picture", "d"],
    "through a link": ["link", "--labels-tiff", "d"],
    "of several places": ["other", "d", "--labels-tiff", "d"],
    "below": ["d", "--recursive", "--labels-tiff", "d/new"],
    "tables that match": ["d", "--pattern", "*.npy;*.csv", "--table", "d"],
}


@pytest.mark.parametrize("words", AMONG.values(), ids=AMONG)
def test_results_that_the_next_run_would_take_for_images_are_refused(batch, words):
    """> the labels of the first run were images of the second"""
    draw("other/b.tif")
    Path("d").mkdir()
    np.save("d/a.npy", tifffile.imread("other/b.tif"))
    Path("link").symlink_to("d")
    code, _, err = batch(*words)
    assert code == 2 and err.count("\n") == 1 and "the next run would take it for one of them" in err
    assert sorted(path.name for path in Path("d").rglob("*.*")) == ["a.npy"]


APART = {
    "stores": ["d", "--out", "d"],
    "tables": ["d", "--table", "d"],
    "below": ["d", "--labels-tiff", "d/new"],
    "hidden": ["d", "--recursive", "--labels-tiff", "d/.new"],
    "by pattern": ["d", "--pattern", "*.npy", "--labels-tiff", "d"],
}


@pytest.mark.parametrize("words", APART.values(), ids=APART)
def test_results_that_no_run_takes_for_images_may_lie_beside_them(batch, words):
    Path("d").mkdir()
    np.save("d/a.npy", tifffile.imread(draw("b.tif")))
    for _ in range(2):
        code, out, err = batch(*words, "--json", "--overwrite")
        assert code == 0 and len(json.loads(out)["images"]) == 1, err


@pytest.mark.parametrize("where", ["first", "last", "between"])
def test_every_image_that_fails_is_named_and_every_other_is_done(batch, where):
    bad, good = bad_files(), [draw("a.tif"), draw("b.tif")]
    given = {"first": [*bad, *good], "last": [*good, *bad], "between": [*bad[:3], good[0], *bad[3:], good[1]]}[where]
    code, _, err = batch(*given, "--table", "t")
    assert code == 2
    assert sorted(path.name for path in Path("t").iterdir()) == ["a.csv", "b.csv"]
    lines = err.splitlines()
    assert len(lines) == len(bad) and all(name in line for name, line in zip(given_bad(given, bad), lines, strict=True))


def given_bad(given, bad):
    return [name for name in given if name in bad]


def test_the_document_tells_of_each(batch):
    Path("x.tif").write_text("x")
    Path("y.tif").write_text("y")
    code, out, err = batch("x.tif", draw("a.tif"), "y.tif", "--table", "t", "--json")
    images = json.loads(out)["images"]
    assert code == 2 and len(err.splitlines()) == 2
    assert ["error" in one for one in images] == [True, False, True] and [one.get("image") for one in images][::2] == [
        "x.tif",
        "y.tif",
    ]


def test_the_disk_may_fail_for_one_image_too(batch, monkeypatch):
    from napari_shiftseg.cli import segment

    write = segment.write_results

    def full(result, target, **wish):
        if target.table.name == "a.csv":
            raise OSError(28, "No space left on device")
        return write(result, target, **wish)

    monkeypatch.setattr(segment, "write_results", full)
    code, _, err = batch(draw("a.tif"), draw("b.tif"), "--table", "t")
    assert code == 2 and "a.tif" in err and [path.name for path in Path("t").iterdir()] == ["b.csv"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, RecursionError, type("PanicException", (BaseException,), {})])
@pytest.mark.parametrize("count", [1, 2])
def test_a_mistake_of_ours_is_a_sentence_with_a_file_that_tells_where(batch, monkeypatch, tmp_path, kind, count):
    from napari_shiftseg.cli import segment

    def wrong(*_, **__):
        raise kind("a mistake\x1b[31m" + "x" * 1000)

    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    monkeypatch.setattr(segment, "write_results", wrong)
    code, _, err = batch(*[draw(f"{name}.tif") for name in "ab"[:count]], "--table", "t")
    lines = err.splitlines()
    files = sorted((tmp_path / "temp").glob("shiftseg-error-*.txt"))
    assert code == 70 and len(lines) == len(files) == (count if issubclass(kind, Exception) else 1)
    assert all(len(line) < 600 and "mistake of this program" in line and "\x1b" not in line for line in lines)
    assert any(str(files[0]) in line for line in lines) and "in wrong" in files[0].read_text()


def test_a_mistake_is_said_where_there_is_no_room_for_a_file(batch, monkeypatch):
    from napari_shiftseg.cli import segment

    def wrong(*_, **__):
        raise KeyError("a mistake")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment, "write_results", wrong)
    monkeypatch.setattr("tempfile.mkstemp", full)
    code, _, err = batch(draw("a.tif"), "--table", "t")
    assert code == 70 and err.count("\n") == 1 and "KeyError" in err


@pytest.mark.parametrize("when", ["in the network", "before the labels"])
def test_an_interrupted_run_out_of_core_says_what_is_kept(batch, monkeypatch, when):
    from napari_shiftseg.segmentation.blockwise import BlockJob

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as late:
        late.setattr(BlockJob, "embed_steps" if when == "in the network" else "join", stop)
        code, _, err = batch(draw("a.tif"), "--out", "r.ome.zarr", "--out-of-core")
    assert code == 130 and err.count("\n") == 1
    assert ("the network's work is kept: the same command goes on" in err) == (when == "before the labels")
    assert batch("a.tif", "--out", "r.ome.zarr", "--out-of-core")[0] == 0


SAME = {
    "in two folders": (("p1/im.tif", "p2/im.tif"), ("p1_im", "p2_im")),
    "with others": (("p1/im.tif", "x.tif", "p2/im.tif"), ("p1_im", "x", "p2_im")),
    "deeper": (("a/s/im.tif", "b/s/im.tif"), ("a_s_im", "b_s_im")),
    "at two depths": (("a/im.tif", "a/a/im.tif", "b/im.tif"), None),
    "two kinds of file": (("im.tif", "im.tiff"), ("im.tif", "im.tiff")),
    "two kinds in two folders": (("p1/im.tif", "p1/im.png", "p2/im.tif"), None),
    "OME": (("p1/im.ome.tif", "p2/im.ome.tif"), ("p1_im", "p2_im")),
    "capitals": (("p1/IM.tif", "p2/im.tif"), ("p1_IM", "p2_im")),
    "a name like ours": (("p1/im.tif", "p2/im.tif", "p1_im.tif"), None),
    "over the parent": (("p1/../im.tif", "p1/im.tif"), None),
    "dots": (("s-1.8_ROI1.tif", "s-1.8_ROI2.tif"), ("s-1.8_ROI1", "s-1.8_ROI2")),
}


@pytest.mark.parametrize(("images", "names"), SAME.values(), ids=SAME)
def test_images_of_one_name_have_results_of_their_own(images, names):
    for order in permutations(range(len(images))):
        found = names_of([images[k] for k in order])
        assert len({name.casefold() for name in found}) == len(images)
        assert all("/" not in name and os.sep not in name for name in found)
        if names is not None:
            assert found == [names[k] for k in order]


def test_the_results_of_images_of_one_name_are_those_of_each(batch):
    one, two = draw("p1/im.tif", 1), draw("p2/im.tif", 4)
    code, _, err = batch(one, two, "--table", "t", "--labels-tiff", "l", "--out", "s", "--picture", "p")
    assert (code, err) == (0, "")
    for folder, suffix in (("t", ".csv"), ("l", ".tif"), ("s", ".ome.zarr"), ("p", ".png")):
        assert sorted(path.name for path in Path(folder).iterdir()) == [f"p1_im{suffix}", f"p2_im{suffix}"]
    assert [tifffile.imread(f"l/{name}_im.tif").max() for name in ("p1", "p2")] == [1, 4]
    before = {path: path.read_bytes() for folder in "tlp" for path in Path(folder).iterdir()}
    code, _, err = batch(two, one, "--table", "t", "--labels-tiff", "l", "--out", "s", "--picture", "p")
    assert code == 2 and "is there already" in err
    assert {path: path.read_bytes() for folder in "tlp" for path in Path(folder).iterdir()} == before


@pytest.mark.parametrize("again", ["im.tif", "./im.tif", "p/../im.tif"])
def test_an_image_given_twice_is_said(again, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"im\.tif was given twice"):
        names_of(["im.tif", again, "other.tif"])


def test_the_help_says_how_results_are_named(capsys):
    assert cli.main(["segment", "--help"]) == 0
    assert "with its folder in front (p1_im, p2_im) where two images have one name" in " ".join(capsys.readouterr().out.split())
