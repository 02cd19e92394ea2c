"""Results do not depend on what PyTorch was told in the same process, and leave it as it was."""

import random
import subprocess
import sys
import threading
import time
from contextlib import closing, nullcontext
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
import torch

from napari_shiftseg import UNetSpec, load_model, mean_shift, plan_tiles, predict, probe_period, save_model, train
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.network import TrainImage, TrainSettings, arithmetic, predict_steps, train_steps, unet
from napari_shiftseg.network.arithmetic import exact_convolutions, exact_products

shift_module = import_module("napari_shiftseg.instances.mean_shift")

SPEC = UNetSpec(levels=1, features=4)
NEWER = hasattr(torch._C, "_get_fp32_precision_getter")
ABOVE = [("generic", "all"), ("cuda", "all"), ("mkldnn", "all")]
PRECISIONS = [*ABOVE, *((backend, kind) for backend in ("cuda", "mkldnn") for kind in ("matmul", "conv", "rnn"))]
SWITCHES = [
    ("cudnn", "enabled"),
    ("cudnn", "benchmark"),
    ("cudnn", "deterministic"),
    ("mkldnn", "enabled"),
    ("mkldnn", "deterministic"),
]
SECONDS = 20


def put(setting, precision):
    torch._C._set_fp32_precision_setter(*setting, precision)


def told(read):
    """What an older setting says; PyTorch raises where the newer ones contradict it."""
    try:
        return read()
    except RuntimeError:
        return "contradicted"


def state():
    """All that PyTorch can be told about float32."""
    newer = {setting: torch._C._get_fp32_precision_getter(*setting) for setting in PRECISIONS} if NEWER else {}
    return newer | {
        "cudnn": told(lambda: torch.backends.cudnn.allow_tf32),
        "cublas": told(lambda: torch.backends.cuda.matmul.allow_tf32),
        "products": told(torch.get_float32_matmul_precision),
        **{name: getattr(getattr(torch.backends, name[0]), name[1]) for name in SWITCHES},
    }


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    yield
    for backend, name in SWITCHES:
        setattr(getattr(torch.backends, backend), name, name == "enabled")
    torch.set_float32_matmul_precision("highest")
    for setting in PRECISIONS if NEWER else ():
        put(setting, "none")
    torch.backends.cudnn.allow_tf32 = True


def newer(backend, kind, precision):
    needed = pytest.mark.skipif(not NEWER, reason="this PyTorch has no precision per operation")
    return pytest.param(lambda: put((backend, kind), precision), id=f"{backend} {kind} {precision}", marks=needed)


TOLD = [
    newer("generic", "all", "tf32"),
    newer("generic", "all", "bf16"),
    newer("cuda", "all", "tf32"),
    newer("cuda", "conv", "none"),
    newer("cuda", "matmul", "tf32"),
    newer("mkldnn", "all", "bf16"),
    newer("mkldnn", "conv", "bf16"),
    newer("mkldnn", "matmul", "tf32"),
    pytest.param(lambda: torch.set_float32_matmul_precision("high"), id="high"),
    pytest.param(lambda: torch.set_float32_matmul_precision("medium"), id="medium"),
    pytest.param(lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True), id="cuBLAS"),
    pytest.param(lambda: setattr(torch.backends.cudnn, "allow_tf32", False), id="cuDNN"),
    pytest.param(lambda: setattr(torch.backends.cudnn, "benchmark", True), id="benchmark"),
    pytest.param(lambda: setattr(torch.backends.mkldnn, "enabled", False), id="no oneDNN"),
]


def image_of(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def by_tiles(net):
    return predict(net, image_of(1, 60, 60), plan_tiles(SPEC, (60, 60), 20), device="cpu", method="tiles")


def as_a_stream(net):
    return predict(net, image_of(1, 60, 60), plan_tiles(SPEC, (60, 60)), device="cpu", method="stream")


def clusters(net):
    """In eight dimensions densities are products of matrices in float32."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 0.3, (300, 8)) for centre in range(4)])
    found = mean_shift(points, 0.5)
    return np.concatenate([found.modes.ravel(), found.density, found.assignment])


def trained(net):
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int))
    settings = TrainSettings(spec=SPEC, steps=2, batch=1, window=6, device="cpu")
    model = train([TrainImage.from_arrays(image_of(80, 80), labels, settings.normalisation)], settings)
    return np.concatenate([value.ravel() for value in model.module.state_dict().values()])


def probed(net):
    return np.array([value for felt in probe_period(net).sensitivity for value in felt.values()])


WORK = [by_tiles, as_a_stream, clusters, trained, probed]


def seen_inside(monkeypatch, calls):
    """Call this in the middle of each pass of a network, and of each clustering."""
    pool, climb = dict(unet.POOL), shift_module._climb
    for ndim in pool:
        monkeypatch.setitem(unet.POOL, ndim, lambda *given, ndim=ndim: (calls(), pool[ndim](*given))[1])
    monkeypatch.setattr(shift_module, "_climb", lambda *given: (calls(), climb(*given))[1])


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("tell", TOLD)
def test_results_are_equal_in_bits_whatever_pytorch_was_told_and_leave_it_so(seeded_net, monkeypatch, work, tell):
    net = seeded_net(SPEC)
    expected, inside = work(net), []
    tell()
    before = state()
    seen_inside(monkeypatch, lambda: inside.append(state()))
    np.testing.assert_array_equal(work(net), expected)
    assert state() == before
    assert inside and {seen["products"] for seen in inside} == {"highest"} and not any(seen["cublas"] for seen in inside)
    for seen in inside:
        for setting in (("cuda", "matmul"), ("mkldnn", "matmul")) if NEWER else ():
            assert seen[setting] == "ieee"
        for setting in (("cuda", "conv"), ("mkldnn", "conv")) if NEWER and work is not clusters else ():
            assert seen[setting] == "ieee"
        assert work is clusters or (seen[("mkldnn", "enabled")] and not seen[("cudnn", "benchmark")])


@pytest.mark.parametrize("work", [by_tiles, as_a_stream, clusters, trained])
def test_autocast_of_the_caller_is_not_felt(seeded_net, work):
    net = seeded_net(SPEC)
    expected = work(net)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(work(net), expected)
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("work", [by_tiles, as_a_stream, clusters, trained])
def test_another_default_type_is_no_type_of_ours(seeded_net, tmp_path, work):
    net = seeded_net(SPEC)
    path = save_model(tmp_path / "m", net)
    expected = work(net)
    torch.set_default_dtype(torch.float64)
    try:
        found = work(load_model(path).module)
        assert {parameter.dtype for parameter in load_model(path).module.parameters()} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)
    if work is not trained:  # a training draws its first weights in the default type
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("work", WORK)
def test_another_default_device_is_no_place_of_ours(seeded_net, tmp_path, work):
    """On "meta" tensors have no values, so that whatever is made there by mistake cannot go unseen."""
    path = save_model(tmp_path / "m", seeded_net(SPEC))
    expected = work(load_model(path).module)
    torch.set_default_device("meta")
    try:
        np.testing.assert_array_equal(work(load_model(path).module), expected)
        assert torch.empty(0).is_meta
    finally:
        torch.set_default_device(None)
    with torch.device("meta"):
        np.testing.assert_array_equal(work(load_model(path).module), expected)


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_the_same(seeded_net, work, without):
    net = seeded_net(SPEC)
    expected = work(net)
    with without():
        np.testing.assert_array_equal(work(net), expected)
        assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled() == (without is torch.inference_mode)


@pytest.mark.parametrize("tell", TOLD)
@pytest.mark.parametrize("work", [by_tiles, as_a_stream, clusters, trained])
def test_an_error_leaves_what_pytorch_was_told(seeded_net, monkeypatch, work, tell):
    tell()
    before = state()

    def fail():
        raise ZeroDivisionError

    seen_inside(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        work(seeded_net(SPEC))
    assert state() == before


@pytest.mark.parametrize("method", ["tiles", "stream"])
def test_between_two_steps_and_after_a_cancelled_run_all_is_as_it_was(seeded_net, method):
    """Runs that take turns, in one thread, with other wishes."""
    torch.set_float32_matmul_precision("high")
    before, plan = state(), plan_tiles(SPEC, (600, 60), 20 if method == "tiles" else None)
    wish = {"device": "cpu", "method": method}
    net, image = seeded_net(SPEC), image_of(1, 600, 60)
    with (
        closing(predict_steps(net, image, plan, **wish)) as one,
        closing(predict_steps(net, image, plan, **wish, deterministic=method == "tiles")) as other,
    ):
        for _ in range(2):
            next(one)
            assert state() == before
            next(other)
            assert state() == before
    assert state() == before


def test_a_training_that_is_cancelled_leaves_all_as_it_was():
    torch.backends.cudnn.benchmark = True
    before = state()
    settings = TrainSettings(spec=SPEC, steps=9, batch=1, window=6, device="cpu")
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int))
    images = [TrainImage.from_arrays(image_of(80, 80), labels, settings.normalisation)]
    with closing(train_steps(images, settings)) as steps:
        next(steps)
        assert state() == before
    assert state() == before


def random_wish(rng):
    """One thing that a user can tell PyTorch."""
    kind = rng.randrange(5 if NEWER else 4)
    if kind == 0:
        torch.set_float32_matmul_precision(rng.choice(["highest", "high", "medium"]))
    elif kind == 1:
        torch.backends.cudnn.allow_tf32 = rng.random() < 0.5
    elif kind == 2:
        torch.backends.cuda.matmul.allow_tf32 = rng.random() < 0.5
    elif kind == 3:
        backend, name = rng.choice(SWITCHES)
        setattr(getattr(torch.backends, backend), name, rng.random() < 0.5)
    else:
        setting = rng.choice(PRECISIONS)
        put(setting, rng.choice(["none", "ieee", "tf32", *["bf16"] * (setting[0] != "cuda")]))


def after_changes_above(rng):
    """What the settings come to while those above them are changed: whether each has a value of its own."""
    seen = [state()]
    for setting in ABOVE if NEWER else ():
        for precision in ("ieee", "tf32", "none"):
            put(setting, precision)
            seen.append(state())
    return seen


@pytest.mark.parametrize("wish", [{}, {"tf32": True, "tuned": True}, {"deterministic": True}], ids=["exact", "tf32", "same"])
def test_any_mix_of_both_sets_of_settings_is_overruled_and_put_back(wish):
    for seed in range(150):
        found = []
        for guarded in (False, True):
            rng = random.Random(seed)
            for _ in range(2):  # the first time from wherever the last one ended
                for setting in PRECISIONS if NEWER else ():
                    put(setting, "none")
                torch.backends.cudnn.allow_tf32 = True
                torch.set_float32_matmul_precision("highest")
            for _ in range(rng.randrange(1, 5)):
                random_wish(rng)
            before = state()
            with exact_convolutions(**wish) if guarded else nullcontext():
                if guarded:
                    inside = state()
                    assert inside["products"] == "highest" and not inside["cublas"]
                    assert inside[("cudnn", "deterministic")] is wish.get("deterministic", False)
                    assert inside[("cudnn", "benchmark")] is wish.get("tuned", False)
                    if NEWER:
                        assert inside[("cuda", "conv")] == ("tf32" if wish.get("tf32") else "ieee")
                        assert inside[("mkldnn", "conv")] == "ieee"
                    else:
                        assert inside["cudnn"] is wish.get("tf32", False)
            assert state() == before
            found.append(after_changes_above(rng))
        assert found[0] == found[1]


@pytest.mark.skipif(not NEWER, reason="this PyTorch has no precision per operation")
@pytest.mark.parametrize("tf32", [False, True])
def test_precisions_that_nobody_set_go_on_to_follow_what_is_set_above_them(tf32):
    """In a process of its own: once they have a value, nothing takes it from them."""
    program = f"""
import torch
from napari_shiftseg.network.arithmetic import exact_convolutions
torch.backends.fp32_precision = "tf32"
with exact_convolutions(tf32={tf32}):
    assert torch.backends.cudnn.conv.fp32_precision == {"tf32" if tf32 else "ieee"!r}
assert torch.backends.cudnn.conv.fp32_precision == "tf32"
torch.backends.fp32_precision = "ieee"
print(torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)
torch.backends.fp32_precision = "none"
assert torch.backends.cudnn.allow_tf32
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["ieee", "ieee"], done.stderr


@pytest.mark.parametrize("tell", [param for param in TOLD if not param.marks])
def test_a_pytorch_that_has_the_older_settings_alone(monkeypatch, tell):
    monkeypatch.setattr(arithmetic, "_PER_OPERATION", False)
    tell()
    before = state()
    with exact_convolutions():
        inside = state()
        assert inside["cudnn"] is False and inside["products"] == "highest" and inside["cublas"] is False
    assert {name: value for name, value in state().items() if name not in PRECISIONS} == {
        name: value for name, value in before.items() if name not in PRECISIONS
    }


@pytest.mark.parametrize("tf32", [False, True])
def test_a_network_may_read_and_use_the_older_settings(tf32):
    with exact_convolutions(tf32=tf32):
        assert torch.backends.cudnn.allow_tf32 is tf32
        with torch.backends.cudnn.flags(enabled=False):
            assert torch.get_float32_matmul_precision() == "highest"


# -- threads ----------------------------------------------------------------------------------------------------------


class Visitor(threading.Thread):
    """Holds settings until it is let go."""

    def __init__(self, **wish):
        super().__init__(daemon=True)
        self.wish, self.inside, self.leave = wish, threading.Event(), threading.Event()
        self.start()

    def run(self):
        with exact_convolutions(**self.wish):
            self.inside.set()
            self.leave.wait(SECONDS)

    def end(self):
        self.leave.set()
        self.join(SECONDS)
        assert not self.is_alive()


def test_threads_with_one_wish_compute_side_by_side_and_the_last_puts_all_back():
    torch.set_float32_matmul_precision("high")
    before = state()
    one, other = Visitor(), Visitor()
    assert one.inside.wait(SECONDS) and other.inside.wait(SECONDS)
    during = state()
    assert during != before
    one.end()
    assert state() == during
    other.end()
    assert state() == before


def test_threads_with_other_wishes_take_turns_in_the_order_in_which_they_came():
    exact = Visitor()
    assert exact.inside.wait(SECONDS)
    coarse = Visitor(tf32=True)
    assert not coarse.inside.wait(0.1)
    late = Visitor()  # the same wish as the first, but it would keep the other waiting
    assert not late.inside.wait(0.1) and not torch.backends.cudnn.allow_tf32
    exact.end()
    assert coarse.inside.wait(SECONDS) and torch.backends.cudnn.allow_tf32 and not late.inside.is_set()
    coarse.end()
    assert late.inside.wait(SECONDS) and not torch.backends.cudnn.allow_tf32
    late.end()


def test_clustering_never_waits_for_a_network_nor_a_network_for_clustering():
    """Out of core, one block is clustered while the next one is in the network, whatever its arithmetic is."""
    with exact_products():
        coarse = Visitor(tf32=True)
        assert coarse.inside.wait(SECONDS)
    with exact_products():
        assert torch.get_float32_matmul_precision() == "highest"
    coarse.end()


def test_two_runs_with_other_wishes_do_not_change_each_other(seeded_net, monkeypatch):
    net, image, plan = seeded_net(SPEC), image_of(1, 120, 60), plan_tiles(SPEC, (120, 60), 20)
    expected, seen, mixed = predict(net, image, plan, device="cpu", method="tiles"), [], []
    wishes = {"exact": False, "same": True}

    def look():
        wanted = wishes[threading.current_thread().name]
        seen.append(wanted)
        time.sleep(0.001)  # a turn for the other one
        if torch.backends.cudnn.deterministic is not wanted:
            mixed.append(wanted)

    def run(deterministic):
        steps = predict_steps(net, image, plan, device="cpu", method="tiles", deterministic=deterministic)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                np.testing.assert_array_equal(stop.value.embedding, expected)
                ended.append(deterministic)
                return

    ended = []
    seen_inside(monkeypatch, look)
    threads = [threading.Thread(target=run, args=(wish,), name=name, daemon=True) for name, wish in wishes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(ended) == [False, True] and not mixed
    turns = sum(a != b for a, b in pairwise(seen))
    assert turns > 1  # they did run at the same time


def test_a_network_that_runs_another_inside_its_own_pass():
    with exact_convolutions():
        with exact_convolutions():
            assert torch.backends.cudnn.allow_tf32 is False
        assert torch.backends.cudnn.allow_tf32 is False
        with pytest.raises(SettingsError, match="one by one"), exact_convolutions(tf32=True):
            pass
        assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is True
