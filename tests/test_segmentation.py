"""`segment`: the same labels whatever the tiles, on every kind of image, with a record that tells what happened."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from grey import grey_model as made

from napari_shiftseg import (
    SegmentSettings,
    TrainSettings,
    UNetSpec,
    match_score,
    open_result,
    save_model,
    segment,
    synthetic,
    train,
)
from napari_shiftseg.errors import ComplianceError, DeviceError, ImageError, ModelError, ResultError, SettingsError, TilingError
from napari_shiftseg.events import Stage, TileDone, WindowDone
from napari_shiftseg.geometry import plan_tiles, violations
from napari_shiftseg.io import Image, from_plain, read_image
from napari_shiftseg.network import Augmentation, Clustering, ModelRecord, Normalisation, TrainImage
from napari_shiftseg.segmentation import plan_image, segment_steps, status

ON_CPU = SegmentSettings(device="cpu")


def grey_model(ndim=2, deep=0.0, window=None, **values):
    return made(ndim, deep, window, digest="ab12", **values)


def grey_image(shape, seed=0):
    """Boxes of 7 px in grey values that differ from box to box; returns image and truth."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.uint32)
    image = np.zeros(shape, np.float32)
    for corner in np.ndindex(*(n // 8 for n in shape)):
        if rng.random() < 0.6:
            window = tuple(slice(8 * c, 8 * c + 7) for c in corner)
            image[window] = rng.choice([0.4, 0.6, 0.8, 1.0])
            truth[window] = truth.max() + 1
    image[(0,) * len(shape)] = 0
    image[(slice(0, 7),) * len(shape)] = 1.0  # the brightest value is there in any image
    truth[(slice(0, 7),) * len(shape)] = truth.max() + 1
    return image, relabel(truth)


def relabel(truth):
    ids, first, index = np.unique(truth, return_index=True, return_inverse=True)
    order = np.argsort(np.where(ids == 0, -1, first))
    rank = np.empty(len(ids), np.uint32)
    rank[order] = np.arange(len(ids))
    return rank[index.reshape(truth.shape)]


@pytest.fixture(scope="module", params=[True, False], ids=["coordinates", "codes"])
def trained(request):
    """A network that has learnt a little: about nine of ten blobs (coordinates) or six of ten (codes)."""
    made = [synthetic.blobs((128, 128), 26, radius=(5, 8), touching=0.2, seed=seed) for seed in range(2)]
    images = [TrainImage.from_arrays(one.image, one.labels, Normalisation()) for one in made]
    spec = UNetSpec(levels=2, features=8, foreground=True, coordinates=request.param, embedding_dim=2 if request.param else 4)
    settings = TrainSettings(
        spec=spec,
        batch=2,
        steps=80,
        learning_rate=0.03,
        device="cpu",
        augmentation=Augmentation(scale=1.1, intensity=0.3),
        average=0.0,
        push_distance=None if request.param else 10.0,
        delta_dist=3.0 if request.param else 1.5,
        clustering=Clustering(bandwidth=1.5 if request.param else 0.75),
    )
    return train(images, settings)


@pytest.fixture(scope="module")
def blobs():
    return synthetic.blobs((150, 130), 26, radius=(5, 8), touching=0.2, seed=9)


TILES = (8, 20, 36, 64, 10**6)


def test_labels_are_the_same_at_five_tile_sizes(trained, blobs):
    """The promise of the package."""
    results = [segment(blobs.image, trained, replace(ON_CPU, write=write)) for write in TILES]
    assert len({len(r.plan) for r in results}) == 5
    first = results[-1]
    assert len(first.plan) == 1 and first.labels.max() > 15
    for other in results[:-1]:
        np.testing.assert_allclose(other.embedding, first.embedding, rtol=0, atol=1e-4)
        assert (other.labels != first.labels).sum() <= first.labels.size / 1e6
        assert other.record["status"] == "compliant"


def test_a_short_training_already_finds_most_blobs(trained, blobs):
    result = segment(blobs.image, trained, ON_CPU)
    assert match_score(result.labels, blobs.labels, 0.5).ap > (0.7 if trained.spec.coordinates else 0.4)


def test_deterministic_runs_agree_to_the_last_bit(trained, blobs):
    first, *others = (
        segment(blobs.image, trained, replace(ON_CPU, write=write, deterministic=True)) for write in (8, 36, 10**6, None)
    )
    for other in others:
        np.testing.assert_array_equal(other.embedding, first.embedding)
        np.testing.assert_array_equal(other.labels, first.labels)
        assert other.plan == first.plan


def test_a_known_answer():
    image, truth = grey_image((50, 61))
    result = segment(image, grey_model(), replace(ON_CPU, write=12))
    np.testing.assert_array_equal(result.labels, truth)
    assert result.labels.dtype == np.uint32 and result.axes == "yx"
    np.testing.assert_allclose(result.embedding[0], 10 * image, atol=1e-5)
    assert result.foreground.shape == truth.shape and ((result.foreground > 0.5) == (truth > 0)).all()


def test_channels_are_chosen_or_all_taken():
    image, truth = grey_image((40, 44))
    stack = np.stack([np.zeros_like(image), np.ones_like(image), image])
    one = segment(Image.from_array(stack, axes="cyx"), grey_model(), replace(ON_CPU, channels=(2,)))
    np.testing.assert_array_equal(one.labels, truth)
    all_three = grey_model(in_channels=3)
    np.testing.assert_array_equal(segment(stack[[2, 0, 1]], all_three, ON_CPU).labels, truth)
    chosen = segment(Image.from_array(np.moveaxis(stack, 0, -1), axes="yxc"), all_three, replace(ON_CPU, channels=(2, 0, 1)))
    np.testing.assert_array_equal(chosen.labels, truth)
    with pytest.raises(ImageError, match="gives 3 channels and the network wants 1"):
        segment(Image.from_array(stack, axes="cyx"), grey_model(), ON_CPU)
    with pytest.raises(ImageError, match="the network wants 1"):
        segment(Image.from_array(stack, axes="cyx"), grey_model(), replace(ON_CPU, channels=(0, 1)))
    with pytest.raises(ImageError, match="channel 7 was asked for"):
        segment(Image.from_array(stack, axes="cyx"), grey_model(), replace(ON_CPU, channels=(7,)))


def test_a_time_lapse_is_segmented_frame_by_frame_with_one_normalisation():
    frames = [grey_image((30, 34), seed) for seed in range(3)]
    movie = np.stack([image for image, _ in frames])
    movie[1] *= 0.5  # a dark frame stays dark: its limits are those of the movie
    result = segment(Image.from_array(movie, axes="tyx"), grey_model(), replace(ON_CPU, write=8))
    assert (result.axes, result.labels.shape, result.embedding.shape) == ("tyx", (3, 30, 34), (2, 3, 30, 34))
    for index in (0, 2):
        np.testing.assert_array_equal(result.labels[index], frames[index][1])
    np.testing.assert_allclose(result.embedding[0], 10 * movie, atol=1e-5)
    assert result.record["instances"] == [int(labels.max()) for labels in result.labels]
    assert result.record["limits"]["low"] == (0.0,) and result.record["limits"]["high"] == (1.0,)


def test_a_flat_model_takes_a_stack_plane_by_plane():
    planes = [grey_image((24, 31), seed) for seed in range(4)]
    stack = Image.from_array(np.stack([image for image, _ in planes]), axes="zyx", scale=(2.0, 0.5, 0.5))
    result = segment(stack, grey_model(), ON_CPU)
    assert (result.axes, result.scale) == ("zyx", (2.0, 0.5, 0.5))
    np.testing.assert_array_equal(result.labels, np.stack([truth for _, truth in planes]))


def test_a_volume():
    image, truth = grey_image((17, 26, 30))
    result = segment(image, grey_model(ndim=3, convs=1), replace(ON_CPU, write=(4, 8, 30)))
    np.testing.assert_array_equal(result.labels, truth)
    assert result.embedding.shape == (2, 17, 26, 30)


def test_a_movie_of_volumes_with_channels():
    volumes = [grey_image((9, 18, 20), seed) for seed in range(2)]
    data = np.stack([np.stack([image, 0 * image]) for image, _ in volumes])  # t c z y x
    model = grey_model(ndim=3, convs=1, in_channels=2)
    result = segment(Image.from_array(data, axes="tczyx"), model, ON_CPU)
    assert (result.axes, result.embedding.shape) == ("tzyx", (2, 2, 9, 18, 20))
    np.testing.assert_array_equal(result.labels, np.stack([truth for _, truth in volumes]))


def test_the_model_may_be_a_file_and_the_image_too(tmp_path):
    image, truth = grey_image((30, 30))
    np.save(tmp_path / "picture.npy", image)
    path = save_model(tmp_path / "grey", grey_model())
    result = segment(tmp_path / "picture.npy", path, ON_CPU)
    np.testing.assert_array_equal(result.labels, truth)
    assert result.record["model"]["name"] == "grey" and len(result.record["model"]["sha256"]) == 64
    assert result.record["image"]["name"] == "picture"


def test_wishes_reach_the_labelling():
    image, truth = grey_image((40, 40))
    coarse = segment(image, grey_model(), replace(ON_CPU, bandwidth=50.0))
    assert coarse.record["clustering"]["bandwidth"] == 50.0
    assert segment(image, grey_model(), ON_CPU).record["clustering"]["bandwidth"] == 0.4, "that of the model's record"
    none = segment(image, grey_model(), replace(ON_CPU, min_size=10_000))
    assert not none.labels.any()
    strict = segment(image, grey_model(), replace(ON_CPU, threshold=0.999999))
    assert 0 < (strict.labels > 0).sum() < (truth > 0).sum()


def test_events_tell_stages_tiles_and_windows():
    events = []
    movie = np.stack([grey_image((20, 20), seed)[0] for seed in range(2)])
    wish = replace(ON_CPU, write=8, method="tiles")
    result = segment(Image.from_array(movie, axes="tyx"), grey_model(), wish, on_event=events.append)
    stages = [e.text for e in events if isinstance(e, Stage)]
    assert stages == ["network of frame 1/2", "instances of frame 1/2", "network of frame 2/2", "instances of frame 2/2"]
    assert sum(isinstance(e, TileDone) for e in events) == 2 * len(result.plan) == 18
    assert sum(isinstance(e, WindowDone) for e in events) == 2
    assert events[0] == Stage(done=0, total=9, text="network of frame 1/2")


def test_a_stream_gives_what_tiles_give_and_the_record_says_which_ran():
    image, _ = grey_image((40, 30))
    wish = replace(ON_CPU, memory=20_000)  # small tiles cost more than the stream
    results = [segment(image, grey_model(), replace(wish, method=name)) for name in ("tiles", "stream", "auto")]
    for other in results[1:]:
        np.testing.assert_array_equal(other.labels, results[0].labels)
    methods = [result.record["method"] for result in results]
    assert methods[0] == {"name": "tiles"} and methods[1] == methods[2]
    assert methods[1]["name"] == "stream" and methods[1]["strip"] > 0
    assert len(results[0].plan.seams()[0]) > 0 == len(results[1].plan.seams()[0]), "rows of a stream have no seams"
    assert results[1].record["plan"]["tiles"] == [1, *methods[1]["columns"]]
    assert segment(image, grey_model(), replace(wish, write=16)).record["method"] == {"name": "tiles"}
    with pytest.raises(SettingsError, match=r"cannot be streamed, because equal bits .* \(deterministic\)"):
        segment(image, grey_model(), replace(ON_CPU, method="stream", deterministic=True))


def test_the_record_is_json_and_repeats_the_run():
    image, _ = grey_image((40, 30))
    model = grey_model()
    wish = replace(ON_CPU, write=16, bandwidth=0.5)
    result = segment(image, model, wish)
    record = json.loads(json.dumps(result.record))
    assert set(record) == {
        "model", "image", "plan", "status", "violations", "settings", "clustering", "limits", "device", "versions",
        "time", "instances", "seconds", "method", "promises", "run", "intensity", "likeness", "job",
        "diameter", "scaling",
    }  # fmt: skip
    assert record["model"]["name"] == "grey" and record["model"]["sha256"] == "ab12"
    assert UNetSpec.from_dict(record["model"]["spec"]) == model.spec
    assert from_plain(ModelRecord, record["model"]["record"]) == model.record
    plan = plan_tiles(model.spec, record["plan"]["image_shape"], record["plan"]["write"], record["plan"]["border"])
    assert plan == result.plan
    again = segment(image, model, SegmentSettings(**record["settings"]))
    np.testing.assert_array_equal(again.labels, result.labels)
    assert len(record["run"]) == 32 and again.record["run"] != record["run"], "equal runs are two runs"
    assert (record["status"], record["violations"]) == ("compliant", [])
    assert record["promises"] == {"tile_exact": True, "as_trained": True, "functions": [4, 4], "pairs": [8, 8]}
    assert record["device"]["kind"] == "cpu" and {"python", "torch", "numpy"} <= set(record["versions"])
    assert record["instances"] == [int(result.labels.max())]
    assert set(record["seconds"]) == {"network", "labels", "all"}


def test_a_broken_rule_stops_the_run_before_the_image_is_read():
    class Unread:
        shape, dtype, ndim = (64, 64), np.dtype(np.float32), 2

        def __getitem__(self, key):
            raise AssertionError("the image was read")

    model = grey_model(window=(2, 2))
    with pytest.raises(ComplianceError, match="does not exceed the period 2 px") as caught:
        segment(Unread(), model, ON_CPU)
    assert [v.rule for v in caught.value.violations] == ["training-window"] * 2
    with pytest.raises(TilingError, match="use 8 or 10") as size:
        segment(Unread(), grey_model(), replace(ON_CPU, write=9))
    assert size.value.nearest == (8, 10)


def test_a_broken_rule_can_be_allowed_and_is_stamped():
    image, _ = grey_image((60, 60))
    model = grey_model(deep=1.0, levels=2, features=4)
    allowed = replace(ON_CPU, write=10, allow_noncompliant=True)
    result = segment(image, model, allowed)
    assert result.record["status"] == "non-compliant"
    assert [(v["rule"], v["axis"], v["found"]) for v in result.record["violations"]] == [
        ("write-multiple", 0, 10),
        ("write-multiple", 1, 10),
    ]
    json.dumps(result.record)
    exact = segment(image, model, ON_CPU)
    assert np.abs(result.embedding - exact.embedding).max() > 1e-3


def test_status_keeps_the_two_promises_apart():
    legal = plan_tiles(UNetSpec(levels=2), (60, 60), 8)
    naive = plan_tiles(UNetSpec(levels=2), (60, 60), 10, allow_noncompliant=True)
    good, short = ModelRecord(window=(12, 12)), ModelRecord(window=(4, 4))
    assert status(violations(legal, good), good) == "compliant"
    assert status(violations(legal, short), short) == "tile-exact"
    assert status(violations(legal, None), None) == "tile-exact", "nothing is known of the training"
    assert status(violations(naive, good), good) == "non-compliant"
    padded = plan_tiles(UNetSpec(levels=2, padding="zero"), (60, 60), 8)
    assert status(violations(padded, good), good) == "tile-exact"
    joined = replace(good, neighbours=True)
    assert status(violations(padded, joined), joined) == "tile-exact", "its training had no context"
    alone = plan_tiles(padded.spec, (60, 60), trained=joined)
    assert status(violations(alone, joined), joined) == "compliant"
    assert status(violations(alone, good), good) == "non-compliant", "trained on single tiles, which never met"


@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx", "tzyx"])
def test_a_result_is_saved_and_opened(tmp_path, axes):
    shape = {"t": 2, "z": 3, "y": 24, "x": 30}
    frames = [shape[axis] for axis in axes[:-2]]
    data = np.stack([grey_image((24, 30), seed)[0] for seed in range(int(np.prod(frames, dtype=int)))])
    image = Image.from_array(data.reshape(*frames, 24, 30), axes=axes, scale=[0.25] * len(axes))
    path = tmp_path / "result.zarr"
    result = segment(image, grey_model(), ON_CPU, out=path)
    stored = open_result(path)
    assert (stored.axes, stored.scale) == (axes, result.scale)
    np.testing.assert_array_equal(stored.labels[...], result.labels)
    np.testing.assert_array_equal(stored.foreground[...], result.foreground)
    np.testing.assert_array_equal(stored.image[...].squeeze(), image.data.squeeze())
    embedding = stored.embedding[...]
    np.testing.assert_array_equal(np.moveaxis(embedding, 1, 0) if "t" in axes else embedding, result.embedding)
    assert stored.record["status"] == "compliant"
    assert read_image(path).axes == image.axes


def test_the_image_need_not_be_copied_nor_the_embedding_kept(tmp_path):
    image, truth = grey_image((24, 30))
    lean = segment(image, grey_model(), replace(ON_CPU, keep_embedding=False))
    assert lean.embedding is None
    np.testing.assert_array_equal(lean.labels, truth)
    stored = open_result(lean.save(tmp_path / "lean.zarr", copy_image=False))
    assert stored.embedding is None and stored.image is None
    np.testing.assert_array_equal(stored.labels[...], truth)


def test_a_model_without_foreground_labels_every_pixel(tmp_path):
    image, truth = grey_image((24, 30))
    model = grey_model(foreground=False)
    result = segment(image, model, ON_CPU, out=tmp_path / "all.zarr")
    assert result.foreground is None and (result.labels > 0).all()
    assert open_result(tmp_path / "all.zarr").foreground is None
    background = np.bincount(result.labels[truth == 0]).argmax()
    assert (result.labels[truth == 0] == background).mean() > 0.95


@pytest.mark.parametrize(
    ("image", "model", "settings", "error", "said"),
    [
        ("no.tif", None, {}, ImageError, "there is no image"),
        ([[1, 2]], None, {}, ImageError, "a list was given as the image"),
        (np.zeros((30, 30)), "no-such-model", {}, ModelError, "no model 'no-such-model'"),
        (np.zeros((30, 30)), None, {"method": "magic"}, SettingsError, "method is 'magic'"),
        (np.zeros((30, 30)), None, {"device": "gpu"}, DeviceError, "'gpu' is not known"),
        (np.zeros((30, 30)), None, {"dtype": "float16"}, DeviceError, "use float32 or bfloat16"),
        (np.full((30, 30), np.nan), None, {}, ImageError, "holds no data"),
        (np.zeros((30, 30)), None, {"write": 7}, TilingError, "use 6 or 8"),
        (
            np.zeros((30, 30)),
            None,
            {"limits": (5, 5)},
            SettingsError,
            "give two numbers, the lower one first",
        ),
        (np.zeros((30, 30)), None, {"limits": (1, 2, 3)}, SettingsError, r"limits are \(1, 2, 3\); give \(low, high\)"),
        (
            np.zeros((30, 30)),
            None,
            {"limits": ((0, 1), (0, 1))},
            SettingsError,
            "limits for 2 channels were given",
        ),
        (np.zeros((30, 30)), None, {"percentiles": (50, 101)}, SettingsError, "give two from 0 to 100"),
        (np.zeros((30, 30)), None, {"limits": (0, 1), "percentiles": (1, 99)}, SettingsError, "give one of them"),
        (np.zeros((30, 30)), None, {"limits": (0, 1), "limits_per": "frame"}, SettingsError, "one of the two"),
        (np.zeros((30, 30)), None, {"limits_per": "tile"}, SettingsError, "give 'image' or 'frame'"),
        (np.zeros((30, 30)), None, {"bandwidth": -1.0}, SettingsError, "give positive numbers"),
    ],
    ids=[
        "image",
        "list",
        "model",
        "method",
        "device",
        "dtype",
        "nan",
        "write",
        "equal",
        "three",
        "channels",
        "percentiles",
        "both",
        "fixed",
        "per",
        "bandwidth",
    ],
)
def test_an_error_is_one_sentence_and_leaves_nothing_behind(tmp_path, image, model, settings, error, said):
    if isinstance(image, str):
        image = tmp_path / image
    with pytest.raises(error, match=said) as caught:
        segment(image, model or grey_model(), replace(ON_CPU, **settings), out=tmp_path / "result.zarr")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_cancelling_leaves_nothing_behind(tmp_path):
    image, _ = grey_image((40, 40))
    steps = segment_steps(image, grey_model(), replace(ON_CPU, write=8), tmp_path / "result.zarr")
    for _ in range(5):
        next(steps)
    steps.close()
    assert list(tmp_path.iterdir()) == []


def test_a_taken_path_is_refused(tmp_path):
    image, _ = grey_image((24, 24))
    path = tmp_path / "notes.zarr"
    path.write_text("mine")
    with pytest.raises(ResultError):
        segment(image, grey_model(), ON_CPU, out=path)
    assert path.read_text() == "mine"


def test_memory_decides_the_default_tile():
    spec = UNetSpec(levels=3)
    small, large = (plan_image(spec, (900, 900), SegmentSettings(memory=m << 20)) for m in (40, 4000))
    assert len(small) > len(large)
    assert spec.peak_bytes(small.read) <= 40 << 20
    assert plan_image(spec, (900, 900), SegmentSettings(memory=40 << 20, deterministic=True)) == small.canonical()


def test_settings_are_plain_values():
    wish = SegmentSettings(write=16, bandwidth=0.5, deterministic=True)
    assert SegmentSettings(**json.loads(json.dumps(asdict(wish)))) == wish
