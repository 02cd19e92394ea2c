"""Tables of data by whatever program wrote them, and checkpoints that are none of ours."""

import os

import numpy as np
import pytest
import tifffile
import torch

from napari_shiftseg import UNetSpec
from napari_shiftseg.cli.constants import LARGEST_TABLE
from napari_shiftseg.cli.pairs import find_pairs
from napari_shiftseg.errors import ModelError, ShiftsegError
from napari_shiftseg.network.checkpoint import Checkpoint

MINE = UNetSpec().to_dict()


@pytest.fixture
def data(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "zelle_\u00e4.tif", np.zeros((8, 8), np.uint8))
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "latin-1", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_of_any_program_is_read(data, encoding, mark, end):
    text = end.join([mark.join(["id", "split", "note"]), mark.join(["zelle_\u00e4", "test", "\u00e9"]), ""])
    written = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding)
    (data / "meta.csv").write_bytes(written)
    (pair,) = find_pairs([data], "test")
    assert pair.row == {"id": "zelle_\u00e4", "split": "test", "note": "\u00e9"}


@pytest.mark.parametrize("table", [b"", b"\0\0\0", b"name,split\na,test\n", b"\xff\xfeabc", b'id,split\n"' + b"x" * 200_000])
def test_a_table_that_is_none_is_a_sentence(data, table):
    (data / "meta.csv").write_bytes(table)
    with pytest.raises(ShiftsegError):
        find_pairs([data], "test")


def test_a_table_of_more_than_any_data_is_not_read(data):
    (data / "meta.csv").write_bytes(b"")
    os.truncate(data / "meta.csv", LARGEST_TABLE + 1)
    with pytest.raises(ShiftsegError, match="more than a list of images takes"):
        find_pairs([data], "test")


@pytest.mark.parametrize(
    "saved",
    [{}, [], 3, {"spec": 3}, {"spec": {}}, {"step": 1, "spec": MINE}, {"step": 1, "spec": MINE, "model": {"w": 1}},
     torch.zeros(3)],
    ids=lambda saved: str(saved)[:20],
)  # fmt: skip
def test_a_checkpoint_of_others_is_a_sentence(tmp_path, saved):
    torch.save(saved, tmp_path / "c.pt")
    mine = Checkpoint(tmp_path / "c.pt", spec=UNetSpec(), settings={"window": "(84, 84)"}, images=())
    with pytest.raises(ModelError, match=r"c\.pt"):
        mine.resume({"model": torch.nn.Linear(1, 1)})
