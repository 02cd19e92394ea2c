"""Labels on a disk are corrected where they lie: all levels, the table and the record, whatever happens in between."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from filelock import FileLock

from napari_shiftseg import UNetSpec, plan_tiles
from napari_shiftseg.cli import main
from napari_shiftseg.errors import ResultError, SettingsError
from napari_shiftseg.instances import object_table
from napari_shiftseg.io import ResultWriter, StoredEdits, open_result, read_labels, save_result, work_path
from napari_shiftseg.io import stored_edits as module
from napari_shiftseg.io.result import OneWriter

SHAPES = {"plane": ((1100, 700), "yx"), "series": ((2, 600, 520), "tyx"), "volume": ((20, 150, 140), "zyx")}


def draw(shape, axes):
    """Squares or cubes with gaps between some, and a chunk with nothing but one of them."""
    rng = np.random.default_rng(1)
    ndim = 3 if axes == "zyx" else 2
    coarse = rng.permutation(1 + np.arange(np.prod([-(-n // 40) for n in shape[-ndim:]]))).reshape(
        [-(-n // 40) for n in shape[-ndim:]]
    )
    labels = np.kron(coarse, np.ones((40,) * ndim, np.uint32))[tuple(slice(0, n) for n in shape[-ndim:])].astype(np.uint32)
    labels[rng.random(labels.shape) < 0.1] = 0
    labels[..., 512:, 512:] = 0
    labels[..., 515:519, 515:519] = 9999
    return np.broadcast_to(labels, shape).copy()


def tables(labels, axes, seams=None):
    """The table of a run: of a series one for each frame, with its place."""
    if axes != "tyx":
        return object_table(labels, seams)
    found = [object_table(frame, seams) for frame in labels]
    joined = {"t": np.concatenate([np.full(len(part["index"]), at) for at, part in enumerate(found)])}
    return joined | {name: np.concatenate([part[name] for part in found]) for name in found[0]}


@pytest.fixture(params=SHAPES)
def store(request, tmp_path):
    """A store as a run out of core writes it, its labels, and its axes."""
    shape, axes = SHAPES[request.param]
    labels = draw(shape, axes)
    spatial = shape[1:] if axes == "tyx" else shape
    edges = dict(zip("zyx"[-len(spatial) :], (512, 512) if len(spatial) == 2 else (64, 128, 128), strict=True))
    plan = plan_tiles(UNetSpec(ndim=len(spatial), levels=1, convs=1, features=2), spatial, write=64)
    seams = plan.seams()
    with ResultWriter(tmp_path / "r.ome.zarr", shape=shape, axes=axes) as writer:
        pyramid = writer.create_blocks("labels", edges)
        whole = {**dict.fromkeys(axes, 1), **edges}
        for corner in np.ndindex(*[-(-n // whole[axis]) for axis, n in zip(axes, shape, strict=True)]):
            window = tuple(
                slice(at * whole[a], min(n, (at + 1) * whole[a])) for at, a, n in zip(corner, axes, shape, strict=True)
            )
            pyramid.write(window, labels[window])
        writer.write_objects(tables(labels, axes, seams))
        path = writer.finish({"run": "one", "plan": plan.to_dict()})
    return path, labels, axes


def check(path, labels, axes, edits):
    """Pixels of all levels, table and record of a store are those of some labels."""
    result = open_result(path)
    expected = labels
    for level in result.levels("labels"):
        assert np.array_equal(level[...], expected)
        expected = expected[..., ::2, ::2]
    assert len(result.levels("labels")) > 1 or labels.shape[-1] < 256
    table = tables(labels, axes, result.record["plan"]["seams"])
    shown = result.objects()
    assert list(shown) == list(table)
    for name, values in table.items():
        assert shown[name].dtype == values.dtype and np.allclose(shown[name], values), name
    assert [edit["kind"] for edit in result.record.get("edits", ())] == edits
    assert np.array_equal(read_labels(path).data[...], labels)


def frame_of(axes):
    return (1,) if axes == "tyx" else ()


def three_edits(store, labels, axes):
    """Merge, split, delete, the last one of all that a chunk holds; gives the labels after each."""
    frame, states = frame_of(axes), [labels]

    def then():
        states.append(states[-1].copy())
        return states[-1][frame]

    one, two = np.unique(labels[frame])[[1, -2]].tolist()  # far apart
    edit = store.merge((one, two), frame)
    now = then()
    now[now == two] = one
    edit = store.split(one, frame, seeds=[np.argwhere(labels[frame] == n)[0] for n in (one, two)])
    assert set(edit.made) == {one, int(labels.max()) + 1}
    states.append(states[-1].copy())
    edit.apply(states[-1])
    if 9999 in labels:
        store.delete(9999, frame)
        now = then()
        now[now == 9999] = 0
    else:
        store.delete(one, frame)
        now = then()
        now[now == one] = 0
    return states


def test_edits_reach_all_levels_the_table_and_the_record_and_are_undone_in_a_later_session(store):
    path, labels, axes = store
    earlier = open_result(path).labels
    assert np.array_equal(earlier[...], labels)
    states = three_edits(StoredEdits(path), labels, axes)
    kinds = ["merge", "split", "delete"]
    assert np.array_equal(earlier[...], states[-1])  # also where a file holds nothing any more
    check(path, states[-1], axes, kinds)
    again = StoredEdits(path)
    for count in (2, 1, 0):
        again.undo()
        check(path, states[count], axes, kinds[:count])
    with pytest.raises(SettingsError, match="nothing is left"):
        again.undo()
    for count in (1, 2, 3):
        again.redo()
        check(path, states[count], axes, kinds[:count])


MOMENTS = ("_write", "write_pixels", "_write_files", "_write_table", "table.rename", "update_attributes", "unlink")


@pytest.mark.parametrize("verb", ["do", "undo"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_crash_at_any_moment_leaves_what_the_next_session_puts_right(tmp_path, monkeypatch, moment, verb):
    labels = draw((700, 600), "yx")
    path = save_result(
        tmp_path / "r.zarr",
        labels=labels,
        axes="yx",
        record={"run": "one", "plan": {"result_shape": [700, 600], "seams": [[32], [64]]}},
    )
    group = zarr.open_group(str(path), mode="r+").create_group("objects")
    table = object_table(labels, [[32], [64]])
    for name, values in table.items():
        group.create_array(name, data=values)
    group.update_attributes({"columns": list(table)})
    editor = StoredEdits(path)
    one, two = np.unique(labels)[[1, -2]].tolist()
    merged = np.where(labels == two, one, labels)
    if verb == "undo":
        editor.merge((one, two))

    class Crash(BaseException):
        pass

    calls = []

    def crash(*given, **more):
        calls.append(given)
        if moment == "_write_files" and len(calls) < 2:  # after the first level
            return original(*given, **more)
        if moment == "unlink" and given[0].name != "pending.json":  # that of a lock
            return original(*given, **more)
        raise Crash

    owners = {
        "update_attributes": zarr.Group,
        "table.rename": module.Path,
        "unlink": module.Path,
        "_write": StoredEdits,
        "_write_table": StoredEdits,
    }
    owner, name = owners.get(moment, module), moment.rpartition(".")[2]
    original = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, crash)
        if moment == "_write" and verb == "undo":
            editor.undo()  # an undo writes no file of an edit
        else:
            with pytest.raises(Crash):
                editor.merge((one, two)) if verb == "do" else editor.undo()
    editor._lock.release(remove=False)  # as when the process ends
    again = StoredEdits(path)
    begun = moment != "_write"
    done = begun if verb == "do" else False
    check(path, merged if done else labels, "yx", ["merge"] * done)
    if done:
        again.undo()
        check(path, labels, "yx", [])


EDITING = """
import random, sys
from napari_shiftseg.io import StoredEdits

path, seed = sys.argv[1], int(sys.argv[2])
draw, editor = random.Random(seed), StoredEdits(path)
while True:
    verb = draw.choice(["merge", "merge", "undo", "redo"])
    if verb == "undo" and editor.edits:
        editor.undo()
    elif verb == "redo" and editor.undone:
        editor.redo()
    else:
        editor.merge(draw.sample(editor.rows()["index"].tolist(), 2))
    print(len(editor.edits), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_process_that_is_killed_while_it_edits_leaves_edits_that_are_whole(tmp_path, seed):
    """By the signal that no program can answer, at any moment: opened again, all that the record lists is done and no more."""
    labels = draw((1100, 700), "yx")
    plan = {"result_shape": [1100, 700], "seams": [[32], [64]]}
    path = save_result(tmp_path / "r.zarr", labels=labels, axes="yx", record={"run": "one", "plan": plan})
    group = zarr.open_group(str(path), mode="r+").create_group("objects")
    table = object_table(labels, [[32], [64]])
    for name, values in table.items():
        group.create_array(name, data=values)
    group.update_attributes({"columns": list(table)})
    chance = random.Random(seed)
    with subprocess.Popen([sys.executable, "-c", EDITING, str(path), str(seed)], stdout=subprocess.PIPE, text=True) as child:
        for _ in range(chance.randint(1, 4)):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    listed = StoredEdits(path).edits
    expected = labels.copy()
    for edit in listed:
        expected[np.isin(expected, edit["ids"])] = edit["ids"][0]
    check(path, expected, "yx", ["merge"] * len(listed))


def test_nothing_is_written_while_a_run_writes_there(store):
    path, labels, axes = store
    editor = StoredEdits(path)
    one, two = np.unique(labels[frame_of(axes)])[[1, -2]].tolist()
    with FileLock(str(work_path(path).with_suffix(".lock"))):
        with pytest.raises(ResultError, match="a run is writing"):
            editor.merge((one, two), frame_of(axes))
        with pytest.raises(ResultError, match="a run is writing"):
            StoredEdits(path)
    check(path, labels, axes, [])
    editor.merge((one, two), frame_of(axes))
    assert not work_path(path).with_suffix(".lock").exists()


def test_a_store_that_others_changed_or_that_cannot_be_written_is_left_alone(store, monkeypatch):
    path, labels, axes = store
    frame = frame_of(axes)
    mine, theirs = StoredEdits(path), StoredEdits(path)
    numbers = np.unique(labels[frame])[1:5].tolist()
    theirs.merge(numbers[:2], frame)
    with pytest.raises(ResultError, match="another program"):
        mine.delete(numbers[2], frame)
    with pytest.raises(SettingsError, match="no object"):
        theirs.delete(numbers[1], frame)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("napari_shiftseg.files._create", refuse)
    with pytest.raises(ResultError, match="cannot be written"):
        StoredEdits(path)


def test_edits_whose_pixels_were_not_kept_are_not_undone(tmp_path):
    labels = draw((300, 280), "yx")
    path = save_result(
        tmp_path / "r.zarr", labels=labels, axes="yx", record={"edits": [{"kind": "merge", "ids": [1, 2], "made": [1]}]}
    )
    editor = StoredEdits(path)
    with pytest.raises(SettingsError, match="not kept"):
        editor.undo()
    number = int(labels.max())
    editor.delete(number)
    editor.undo()
    assert np.array_equal(open_result(path).labels[...], labels) and len(open_result(path).record["edits"]) == 1


def test_an_edited_store_is_measured_exported_and_told_apart(store, tmp_path, capsys):
    path, labels, axes = store
    three_edits(StoredEdits(path), labels, axes)
    assert main(["measure", str(path), "--out", str(tmp_path / "cells.csv")]) == 0
    now = open_result(path).labels[...]
    frames = now if axes == "tyx" else [now]
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 1 + sum(len(np.unique(frame)) - 1 for frame in frames)
    copy = tmp_path / "copy.ome.zarr"
    assert main(["export", str(path), str(copy)]) == 0
    assert len(open_result(copy).record["edits"]) == 3
    capsys.readouterr()
    main(["seams", str(path)])
    assert "3 edits by hand" in capsys.readouterr().out
    shutil.rmtree(copy)
    assert (
        json.loads((path / "zarr.json").read_text())["attributes"]["napari-shiftseg"]["record"]["edits"][0]["kind"] == "merge"
    )


def test_an_edit_is_kept_and_carried_out_under_one_lock(tmp_path, monkeypatch):
    """One who edits in between would write the file from which the first edit is undone."""
    labels = np.zeros((64, 64), np.uint32)
    labels[2:8, 2:8], labels[20:30, 20:30] = 1, 2
    path = save_result(tmp_path / "r.ome.zarr", labels=labels, axes="yx", record={"status": "compliant"})
    first, second, real, refused = StoredEdits(path), StoredEdits(path), OneWriter.release, []

    def late(self, **wish):
        real(self, **wish)
        if not refused:
            refused.append(True)
            with pytest.raises(ResultError, match="another program"):
                second.delete(2)

    monkeypatch.setattr(OneWriter, "release", late)
    first.delete(1)
    assert refused
    first.undo()
    np.testing.assert_array_equal(open_result(path).labels[:], labels)
