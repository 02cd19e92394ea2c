"""Sizes of a U-Net against the figures of the paper's networks and against a walk through the layers."""

import itertools
import json

import numpy as np
import pytest

from napari_shiftseg import UNetSpec
from napari_shiftseg.errors import SettingsError, SizeError


def walk(spec, size, axis=0):
    """Output edge of an input edge, layer by layer; None where a pooling does not divide or nothing is left."""
    lost = spec.kernels[axis] - 1
    skips = []
    for factor in spec.factors:
        size -= spec.convs * lost
        if size < 1 or size % factor[axis]:
            return None
        skips.append(size)
        size //= factor[axis]
    size -= spec.convs * lost
    for factor, skip in zip(reversed(spec.factors), reversed(skips), strict=True):
        if size < 1:
            return None
        size *= factor[axis]
        assert (skip - size) % 2 == 0, "a skip cannot be cropped around its centre"
        size -= (spec.decoder_convs or spec.convs) * lost
    size -= spec.head_kernel - 1
    return size if size > 0 else None


# levels -> smallest legal input, margin, output modulo 2**levels, reach
PAPER = {1: (18, 16, 0, 9), 2: (44, 40, 0, 23), 3: (92, 88, 4, 51), 4: (188, 184, 4, 107), 5: (380, 376, 4, None)}


@pytest.mark.parametrize("levels", PAPER)
def test_sizes_of_the_papers_networks(levels):
    smallest, margin, residue, reach = PAPER[levels]
    spec = UNetSpec(levels=levels)
    period = 2**levels
    assert spec.period == (period, period)
    assert spec.margin == (margin, margin)
    assert spec.input_size(1, 0) == smallest
    for size in range(smallest, smallest + 5 * period, period):
        assert spec.output_size(size, 0) == size - margin
        assert spec.output_size(size, 0) % period == residue
    if reach is not None:
        assert spec.reach == (reach, reach)


@pytest.mark.parametrize(
    ("levels", "sizes"),
    [
        (3, {100: 12, 108: 20, 220: 132}),
        (4, {188: 4, 204: 20, 220: 36, 236: 52, 252: 68, 268: 84, 284: 100, 300: 116}),
    ],
    ids=["l3", "l4"],
)
def test_outputs_of_the_papers_inputs(levels, sizes):
    spec = UNetSpec(levels=levels)
    assert {size: spec.output_size(size, 0) for size in sizes} == sizes


def test_the_output_of_four_levels_is_never_a_multiple_of_the_period():
    """Hence the crop: out = 4 mod 16 whatever the input."""
    spec = UNetSpec(levels=4)
    legal = [size for size in range(1, 700) if walk(spec, size) is not None]
    assert legal[0] == 188 and set(np.diff(legal)) == {16}
    assert {spec.output_size(size, 0) % 16 for size in legal} == {4}


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_bottleneck_cells_begin_two_pixels_inside_the_output(levels):
    assert UNetSpec(levels=levels).grid_phase == (2, 2)


def test_factor_three():
    spec = UNetSpec(levels=2, pool=3)
    assert spec.period == (9, 9)
    assert {size: spec.output_size(size, 0) for size in (70, 79, 88)} == {70: 2, 79: 11, 88: 20}
    for levels in (1, 2, 3):
        spec = UNetSpec(levels=levels, pool=3)
        assert spec.output_size(spec.input_size(1, 0), 0) % 3**levels == 2


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_a_head_that_takes_as_much_as_a_decoder_level_needs_no_crop(levels):
    """The networks on constant input: one decoder convolution and a 3 x 3 head."""
    spec = UNetSpec(levels=levels, decoder_convs=1, head_kernel=3)
    assert spec.output_size(spec.input_size(1, 0), 0) % 2**levels == 0
    if levels == 2:
        assert (spec.input_size(1, 0), spec.margin[0]) == (40, 36)
    if levels == 4:
        assert spec.output_size(204, 0) == 48


FAMILY = [
    UNetSpec(ndim=1, levels=levels, pool=pool, kernel=kernel, convs=convs, decoder_convs=decoder, head_kernel=head)
    for levels, pool, kernel, convs, decoder, head in itertools.product(
        (0, 1, 2, 3), (1, 2, 3), (1, 3, 5), (1, 2, 3), (None, 1), (1, 3)
    )
]


def test_a_size_is_legal_exactly_where_it_passes_layer_by_layer():
    for spec in FAMILY:
        for size in range(1, spec.margin[0] + 2 * spec.period[0] + 2):
            expected = walk(spec, size)
            if expected is not None:
                assert spec.output_size(size, 0) == expected, (spec, size)
                continue
            with pytest.raises(SizeError) as caught:
                spec.output_size(size, 0)
            for legal in caught.value.nearest:
                assert walk(spec, legal) is not None, (spec, size, legal)
                assert abs(legal - size) <= max(spec.period[0], caught.value.nearest[0] - size)


def test_the_input_is_the_smallest_whose_output_suffices():
    for spec in FAMILY[::5]:
        for wanted in range(1, 2 * spec.period[0] + 3):
            size = spec.input_size(wanted, 0)
            assert walk(spec, size) >= wanted
            assert not any((walk(spec, smaller) or 0) >= wanted for smaller in range(size - spec.period[0], size))


def test_neighbouring_legal_sizes_are_named():
    spec = UNetSpec(levels=4)
    with pytest.raises(SizeError, match="use 188 or 204 px") as caught:
        spec.output_size(200, 0)
    assert caught.value.nearest == (188, 204)
    with pytest.raises(SizeError) as caught:
        spec.output_size(16, 0)
    assert caught.value.nearest == (188,)
    with pytest.raises(SizeError, match="1 px or more"):
        spec.input_size(0, 0)
    with pytest.raises(SizeError, match="1 sizes were given for 2 axes"):
        spec.output_size((188,))


def test_sizes_may_come_from_numpy():
    spec = UNetSpec(levels=4)
    assert spec.input_size(np.int64(16)) == 204
    assert spec.output_size(np.array([204, 220])) == (20, 36)


def test_anisotropic_pooling_has_a_period_per_axis():
    spec = UNetSpec(ndim=3, levels=3, pool=((1, 2, 2), (2, 2, 2), (1, 3, 2)), kernel=(1, 3, 5), convs=1)
    assert spec.period == (2, 12, 8)
    assert spec.margin[0] == 0
    for axis in range(3):
        legal = [size for size in range(1, 150) if walk(spec, size, axis) is not None]
        assert legal and spec.input_size(1, axis) == legal[0]
        assert all(spec.output_size(size, axis) == walk(spec, size, axis) for size in legal)
    assert spec.output_size(spec.input_size((5, 6, 7))) >= (5, 6, 7)


@pytest.mark.parametrize(("kernel", "convs"), [(5, 1), (5, 2), (3, 1), (3, 3)], ids=str)
def test_margin_of_other_kernels(kernel, convs):
    spec = UNetSpec(levels=2, kernel=kernel, convs=convs)
    side = (kernel - 1) // 2 * convs
    # down: 1 + 2 + 4, up: 2 + 1 times what a block takes from each side
    assert spec.margin == (2 * side * 10, 2 * side * 10)


def test_zero_padding_loses_nothing():
    spec = UNetSpec(levels=3, padding="zero", head_kernel=3)
    assert (spec.margin, spec.grid_phase) == ((0, 0), (0, 0))
    assert spec.input_size(20, 0) == 24 and spec.output_size(24, 0) == 24
    with pytest.raises(SizeError) as caught:
        spec.output_size(20, 0)
    assert caught.value.nearest == (16, 24)


def test_no_level_at_all_is_a_plain_convolutional_network():
    spec = UNetSpec(levels=0)
    assert (spec.period, spec.margin, spec.reach) == ((1, 1), (4, 4), (2, 2))


def test_dictionary_and_json_give_the_spec_back():
    for spec in (
        UNetSpec(),
        UNetSpec(ndim=3, levels=2, pool=((1, 2, 2), (2, 2, 2)), kernel=(1, 3, 3), foreground=True, decoder_convs=1),
    ):
        again = UNetSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        assert again == spec and hash(again) == hash(spec)


@pytest.mark.parametrize(
    "values",
    [{"depth": 3}, {"levels": "3"}, {"pool": [[2, 2]], "levels": 2}, {"kernel": "3"}, {3: 3}, 5, True, "levels", [5], None],
    ids=str,
)
def test_a_foreign_description_is_refused(values):
    with pytest.raises(SettingsError):
        UNetSpec.from_dict(values)


@pytest.mark.parametrize(
    "values",
    [
        {"ndim": 4},
        {"levels": -1},
        {"features": 0},
        {"embedding_dim": 1.5},
        {"pool": 0},
        {"pool": 1_000_000_000},
        {"pool": ((2, 10**9), (2, 2)), "levels": 2},
        {"levels": 28},
        {"pool": [(2, 2), (2, 2), (2, 2)]},
        {"pool": ((2, 2), (2, 2))},
        {"pool": ((2, 2), (2, 2), (2, 0))},
        {"kernel": 2},
        {"kernel": (3,)},
        {"head_kernel": 2},
        {"decoder_convs": 0},
        {"upsampling": "bilinear"},
        {"padding": "same"},
        {"coordinates": True, "embedding_dim": 1},
    ],
    ids=str,
)
def test_what_is_no_unet_is_refused(values):
    with pytest.raises(SettingsError):
        UNetSpec(**values)


def test_cost_grows_with_the_tile_and_shrinks_per_pixel():
    spec = UNetSpec(levels=3)
    costs = [spec.flops((size, size)) / spec.output_size(size, 0) ** 2 for size in (100, 220, 2020)]
    assert costs[0] > costs[1] > costs[2] > spec.flops_per_pixel
    assert costs[2] == pytest.approx(spec.flops_per_pixel, rel=0.1)
    assert spec.peak_bytes((220, 220)) > spec.peak_bytes((100, 100)) > 100 * 100 * 4 * 16


def test_flops_of_the_papers_network():
    """Fig. 2: 928 million multiply-adds for 220 px, and 490 million for Fig. 3."""
    assert UNetSpec(levels=3).flops((220, 220)) / 2e6 == pytest.approx(928, rel=0.02)
    assert UNetSpec(levels=4).flops((204, 204)) / 2e6 == pytest.approx(490, rel=0.02)
