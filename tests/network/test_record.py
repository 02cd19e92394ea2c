"""A training record survives JSON and refuses what it does not know."""

import json

import pytest

from napari_shiftseg.errors import ModelError
from napari_shiftseg.network import Clustering, ModelRecord, Normalisation


def test_json_gives_the_record_back():
    record = ModelRecord(
        window=(24, 24),
        neighbours=True,
        steps=500,
        data="disks",
        losses={"loss": 0.25},
        settings={"learning_rate": 1e-3},
        normalisation=Normalisation(low=2, high=99),
        clustering=Clustering(bandwidth=2.0, min_size=5),
        note="a note",
    )
    assert ModelRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"window": 24},
        {"window": ["a"]},
        {"window": [24, 24], "epochs": 3},
        {"window": [24, 24], "normalisation": {"mean": 0}},
        {"window": [24, 24], "clustering": None},
    ],
    ids=str,
)
def test_a_foreign_record_is_refused_in_one_sentence(values):
    with pytest.raises(ModelError, match="does not fit this version"):
        ModelRecord.from_dict(values)
