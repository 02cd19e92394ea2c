"""The tilers that ours is compared with do what they say, and both sides get the layout that they are told to take."""

import importlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_shiftseg import UNetSpec
from napari_shiftseg.network import UNet


@pytest.fixture
def benchmarks(monkeypatch):
    """Modules of the benchmarks by name."""
    from pathlib import Path

    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the benchmarks are not part of a source distribution")
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module


def reimplemented(benchmarks, ndim, window, halos=(16,)):
    module = benchmarks("peer_tilers")
    found = {**module.tilers(ndim, window, halos), **module.shifted_blocks(window, halos)}
    return {name: tiler for name, tiler in found.items() if not name.startswith("MONAI")}


@pytest.mark.parametrize("shape", [(203, 77), (40, 131), (41, 30, 53)])
def test_a_network_that_does_nothing_gives_the_image(benchmarks, shape):
    image = np.random.default_rng(0).random((1, *shape), np.float32)
    for name, tiler in reimplemented(benchmarks, len(shape), 48 if len(shape) == 2 else 24).items():
        found = tiler.run(image, lambda x: torch.cat([x, 2 * x], 1))
        assert np.allclose(found, np.concatenate([image, 2 * image]), atol=1e-5), name


def test_windows_of_1003_px_lie_where_the_packages_put_them(benchmarks):
    starts = {name: tiler.starts((1003, 1003))[0] for name, tiler in reimplemented(benchmarks, 2, 256).items()}
    assert starts["nnU-Net-style 0.5"] == (0, 124, 249, 374, 498, 622, 747)
    assert starts["cellpose-style 10 %"] == (0, 186, 373, 560, 747)
    assert starts["torch-em-style 256+16"] == (-16, 240, 496, 752)
    assert starts["bioimageio-style 256+16"] == (-16, 240, 496, 731)


def test_a_window_off_the_lattice_changes_the_result_and_a_halo_does_not_help(benchmarks):
    runs, tilers = benchmarks("peers"), reimplemented(benchmarks, 2, 48, (24,))
    torch.manual_seed(0)
    image = np.random.default_rng(0).random((1, 150, 150), np.float32)
    subject = runs.Subject.of(UNet(UNetSpec(levels=2, features=4)), image)
    plain, border = runs.CONFIGS[0], subject.border
    with torch.inference_mode():
        padded = F.pad(torch.from_numpy(image)[None], (0, 2, 0, 2))
        wanted = subject.twin(padded)[0, :, :150, :150].numpy()
    errors = {
        name: runs.difference(runs.run_peer(subject, tiler, plain), wanted, border)["inside_relative_l2"]
        for name, tiler in tilers.items()
    }
    assert errors["torch-em-style 48+24"] < 1e-6 < 1e-3 < errors["bioimageio-style 48+24"]
    whole = runs.run_ours(subject, runs.WHOLE, plain)
    for method in runs.OURS:
        assert runs.difference(runs.run_ours(subject, method, plain, 48), whole, 0)["max"] < 1e-5


@pytest.mark.parametrize("method", ["tiles", "stream"])
def test_ours_takes_the_layout_of_the_comparison(benchmarks, monkeypatch, method):
    runs = benchmarks("peers")
    seen = []
    pool = F.max_pool2d

    def noted(x, *rest):
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return pool(x, *rest)

    monkeypatch.setitem(importlib.import_module("napari_shiftseg.network.unet").POOL, 2, noted)
    subject = runs.Subject.random(2, 64)
    for config, last in zip(runs.CONFIGS, (False, True, True), strict=True):
        seen.clear()
        runs.run_ours(subject, method, config, 32)
        assert seen and set(seen) == {last}, config.name


def test_fused_convolutions_are_counted(benchmarks):
    from napari_shiftseg.network import unet

    counter = benchmarks("bench").flop_counter
    layers = (torch.nn.Conv2d(3, 5, 3), torch.nn.ConvTranspose2d(3, 5, 2, 2))
    if not unet.one_step_works(2, torch.float32):
        pytest.skip("this PyTorch does not fuse them")
    for layer in layers:
        counts = []
        for net in (layer, unet.ConvReLU(layer)):
            with torch.inference_mode(), counter() as found:
                net(torch.rand(2, 3, 9, 8))
            counts.append(found.get_total_flops())
        assert counts[0] == counts[1] > 0
