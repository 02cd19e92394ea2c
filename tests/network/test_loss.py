"""The discriminative loss against its definition written out in numpy."""

import itertools

import numpy as np
import pytest
import torch

from napari_shiftseg import discriminative_loss
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.network import loss as loss_module
from napari_shiftseg.network.loss import foreground_loss


def by_definition(embedding, labels, delta_var=0.5, delta_dist=1.5, background=False, ignore=None, near=None):
    """Pull, push and length with loops over pixels and ordered pairs (De Brabandere et al. 2017, equations 1 to 3)."""
    ids = [i for i in np.unique(labels) if (background or i != 0) and i != ignore]
    means = {i: embedding[:, labels == i].mean(axis=1) for i in ids}
    pull = [np.mean([max(np.linalg.norm(x - means[i]) - delta_var, 0) ** 2 for x in embedding[:, labels == i].T]) for i in ids]
    pairs = [(a, b) for a, b in itertools.product(ids, ids) if a != b and (near is None or near(a, b))]
    push = [max(2 * delta_dist - np.linalg.norm(means[a] - means[b]), 0) ** 2 for a, b in pairs]
    length = [np.linalg.norm(means[i]) for i in ids]
    return tuple(float(np.mean(term)) if term else 0.0 for term in (pull, push, length))


def terms(loss):
    return float(loss.pull.detach()), float(loss.push.detach()), float(loss.length.detach())


def random_case(shape, dim, seed, count=5):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (dim, *shape)).astype(np.float32), rng.integers(0, count + 1, shape)


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 3), (20,)], ids=["2d", "3d", "1d"])
@pytest.mark.parametrize("background", [False, True], ids=["instances", "background-too"])
@pytest.mark.parametrize("seed", range(3))
def test_terms_are_those_of_the_definition(shape, background, seed):
    embedding, labels = random_case(shape, 3, seed)
    loss = discriminative_loss(
        torch.from_numpy(embedding), torch.from_numpy(labels), gamma=0.1, background_is_instance=background
    )
    expected = by_definition(embedding, labels, background=background)
    assert terms(loss) == pytest.approx(expected, rel=1e-5)
    assert float(loss.total) == pytest.approx(expected[0] + expected[1] + 0.1 * expected[2], rel=1e-5)


def test_the_papers_margins():
    """Rumberger et al.: no dead zone, means 6 apart, the background is an instance."""
    embedding, labels = random_case((6, 6), 3, 4)
    loss = discriminative_loss(
        torch.from_numpy(embedding), torch.from_numpy(labels), delta_var=0, delta_dist=3, background_is_instance=True
    )
    assert terms(loss) == pytest.approx(by_definition(embedding, labels, 0, 3, background=True), rel=1e-5)


def test_ignored_pixels_count_nowhere():
    embedding, labels = random_case((8, 8), 2, 1)
    labels[:, 5:] = -1
    loss = discriminative_loss(torch.from_numpy(embedding), torch.from_numpy(labels), ignore=-1, background_is_instance=True)
    cut = discriminative_loss(
        torch.from_numpy(embedding[..., :5]), torch.from_numpy(labels[:, :5]), background_is_instance=True
    )
    assert terms(loss) == pytest.approx(terms(cut), rel=1e-6)


def test_pairs_with_equal_means_are_pushed():
    """Counted by A != B: a filter on equal means would report 0 for a network that fails on every object."""
    labels = torch.tensor([[1, 1, 2, 2, 3, 3]])
    embedding = torch.zeros(2, 1, 6, requires_grad=True)
    loss = discriminative_loss(embedding, labels, delta_dist=1.5)
    assert float(loss.push.detach()) == 9.0
    embedding = torch.zeros(2, 1, 6)
    embedding[:, 0, 4:] = 100
    assert float(discriminative_loss(embedding, labels).push) == pytest.approx(3.0)


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["coincident", "spread"])
def test_gradients_are_finite_for_single_pixels_and_coincident_means(spread):
    """Fig. 4: every pixel is an instance; the norm of zero has subgradient zero."""
    torch.manual_seed(0)
    embedding = (spread * torch.randn(3, 4, 4)).requires_grad_()
    loss = discriminative_loss(embedding, torch.arange(1, 17).reshape(4, 4), delta_var=0)
    assert float(loss.pull.detach()) == 0
    loss.total.backward()
    assert torch.isfinite(embedding.grad).all()
    if spread:
        assert float(embedding.grad.abs().sum()) > 0


def test_the_gradient_is_that_of_the_value():
    embedding, labels = random_case((4, 5), 2, 3, count=3)
    x = torch.from_numpy(embedding).requires_grad_()
    discriminative_loss(x, torch.from_numpy(labels), gamma=0.1).total.backward()
    step = 1e-3
    for index in [(0, 0, 0), (1, 2, 3), (0, 3, 4)]:
        values = []
        for sign in (1, -1):
            moved = embedding.astype(np.float64)
            moved[index] += sign * step
            pull, push, length = by_definition(moved, labels)
            values.append(pull + push + 0.1 * length)
        assert float(x.grad[index]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-3)


@pytest.mark.parametrize(
    ("labels", "keywords"),
    [(torch.zeros(3, 3, dtype=torch.long), {}), (torch.full((3, 3), -1), {"ignore": -1, "background_is_instance": True})],
    ids=["only-background", "all-ignored"],
)
def test_no_instance_gives_zero_with_a_gradient(labels, keywords):
    embedding = torch.randn(2, 3, 3, requires_grad=True)
    loss = discriminative_loss(embedding, labels, **keywords)
    loss.total.backward()
    assert float(loss.total.detach()) == 0 and float(embedding.grad.abs().sum()) == 0


def test_one_instance_has_nothing_to_push():
    embedding = torch.randn(2, 3, 3, requires_grad=True)
    loss = discriminative_loss(embedding, torch.ones(3, 3, dtype=torch.long))
    assert float(loss.push.detach()) == 0 and float(loss.pull.detach()) > 0
    loss.total.backward()
    assert torch.isfinite(embedding.grad).all()


def test_several_tiles_as_one_label_image_have_the_loss_of_that_image():
    """> d+1 directly neighbouring tiles under one loss: means span the tiles."""
    embedding, labels = random_case((6, 12), 3, 6)
    x, y = torch.from_numpy(embedding), torch.from_numpy(labels)
    whole = discriminative_loss(x, y)
    tiles = [(slice(0, 3), slice(0, 12)), (slice(3, 6), slice(0, 5)), (slice(3, 6), slice(5, 12))]
    joined = discriminative_loss(
        torch.cat([x[:, a, b].flatten(1) for a, b in tiles], 1), torch.cat([y[a, b].flatten() for a, b in tiles])
    )
    assert terms(joined) == pytest.approx(terms(whole), rel=1e-5)


def test_labels_need_not_be_consecutive_and_their_numbers_do_not_matter():
    embedding, labels = random_case((6, 6), 3, 7)
    renamed = np.array([0, 70, 3, 900, 5, 41])[labels]
    losses = [discriminative_loss(torch.from_numpy(embedding), torch.from_numpy(y)) for y in (labels, renamed)]
    assert terms(losses[0]) == pytest.approx(terms(losses[1]), rel=1e-6)


def squares(size=40):
    """Squares of 4 px at columns 2, 8 and 30: gaps of 2 and 18 px, measured between equal disks."""
    labels = np.zeros((10, size), int)
    for number, column in enumerate((2, 8, 30), start=1):
        labels[3:7, column : column + 4] = number
    return labels


@pytest.mark.parametrize(
    ("limit", "pairs"), [(1, set()), (3, {(1, 2)}), (19, {(1, 2), (2, 3)}), (100, {(1, 2), (2, 3), (1, 3)})], ids=str
)
def test_only_neighbours_are_pushed(limit, pairs):
    """The gap is the distance of the centres minus both radii of disks of that area (2.26 px here)."""
    labels = squares()
    embedding = np.random.default_rng(0).normal(0, 0.5, (2, *labels.shape)).astype(np.float32)
    loss = discriminative_loss(torch.from_numpy(embedding), torch.from_numpy(labels), neighbours=limit)
    expected = by_definition(embedding, labels, near=lambda a, b: tuple(sorted((a, b))) in pairs)
    assert terms(loss) == pytest.approx(expected, rel=1e-5)


def test_positions_tell_where_a_list_of_pixels_lies():
    labels = torch.from_numpy(squares())
    embedding = torch.from_numpy(np.random.default_rng(0).normal(0, 0.5, (2, 10, 40)).astype(np.float32))
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(40.0), indexing="ij")
    dense = discriminative_loss(embedding, labels, neighbours=3)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    listed = discriminative_loss(
        embedding.flatten(1)[:, order],
        labels.flatten()[order],
        neighbours=3,
        positions=torch.stack([rows.flatten()[order], columns.flatten()[order]]),
    )
    assert terms(listed) == pytest.approx(terms(dense), rel=1e-5)


@pytest.mark.parametrize("limit", [None, 3, 6])
def test_pairs_in_rows_are_the_pairs_at_once(monkeypatch, limit):
    """Value and gradient, also where means are equal or nearly so, and rows do not come out even."""
    labels = (
        torch.arange(1, 98).repeat_interleave(4)[torch.randperm(388, generator=torch.Generator().manual_seed(1))].reshape(4, 97)
    )
    codes = torch.randn((3, 4, 97), generator=torch.Generator().manual_seed(0)) + 100
    codes[:, labels == 5] = codes[:, labels == 6] = 100.0
    codes[:, labels == 7] = 100.001
    found = []
    for most in (97, 20):
        monkeypatch.setattr(loss_module, "MOST_AT_ONCE", most)
        embedding = codes.clone().requires_grad_()
        push = discriminative_loss(embedding, labels, neighbours=limit).push
        push.backward()
        found.append((push.item(), embedding.grad))
    assert found[0][0] > 0.1
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-7)


def test_the_memory_of_the_loss_does_not_grow_with_the_square_of_the_instances():
    """> 20,000 in a window took all memory of the machine, or a minute. Here: what autograd keeps for the gradient."""
    kept = []
    embedding = torch.randn((2, 1, 6000), generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss = discriminative_loss(embedding, torch.arange(1, 6001)[None])
    assert sum(kept) < 100 * 6000  # of 18 million pairs
    loss.total.backward()
    assert embedding.grad.abs().sum() > 0


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(SettingsError, match=r"\(3, 4, 4\) and the labels \(4, 5\)"):
        discriminative_loss(torch.zeros(3, 4, 4), torch.zeros(4, 5, dtype=torch.long))


def test_the_foreground_loss_knows_right_from_wrong():
    labels = torch.tensor([[0, 0, 3, 3, -1]])
    right = torch.tensor([[-9.0, -9, 9, 9, -9]])
    assert float(foreground_loss(right, labels, ignore=-1)) < 0.01
    assert float(foreground_loss(-right, labels, ignore=-1)) > 5
    # what is ignored does not count, whatever is said of it
    changed = right.clone()
    changed[0, 4] = 50
    assert float(foreground_loss(changed, labels, ignore=-1)) == float(foreground_loss(right, labels, ignore=-1))
    nothing = foreground_loss(right.requires_grad_(), torch.full((1, 5), -1), ignore=-1)
    assert float(nothing.detach()) == 0 and nothing.requires_grad


def test_the_loss_on_every_device(device):
    embedding, labels = random_case((30, 30), 3, 8, count=20)
    loss = discriminative_loss(torch.from_numpy(embedding).to(device), torch.from_numpy(labels).to(device))
    assert terms(loss) == pytest.approx(by_definition(embedding, labels), rel=1e-4)
