"""Losses: pixels of an instance together, instances apart, with one distance for all or with each object's own bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from napari_shiftseg.arguments import told
from napari_shiftseg.errors import SettingsError
from napari_shiftseg.network.constants import (
    FEWEST_PIXELS,
    MOST_AT_ONCE,
    MOST_WEIGHT,
    SEED_WEIGHT,
    SPREAD_WEIGHT,
    SURROUNDINGS,
    SURROUNDINGS_SHARE,
    USUAL_SIZE,
)


@dataclass(frozen=True, kw_only=True)
class DiscriminativeLoss:
    """The three terms and their weighted sum, scalars."""

    total: Tensor  # `pull + push + gamma * length`
    # pull, push, length: variance, distance and regularisation term of De Brabandere et al. 2017.
    pull: Tensor
    push: Tensor
    length: Tensor


@told
def discriminative_loss(
    embedding: Tensor,
    labels: Tensor,
    *,
    delta_var: float = 0.5,
    delta_dist: float = 1.5,
    gamma: float = 1e-3,
    background_is_instance: bool = False,
    ignore: int | None = None,
    neighbours: float | None = None,
    positions: Tensor | None = None,
) -> DiscriminativeLoss:
    """Discriminative loss of one label image.

    Parameters
    ----------
    embedding : Tensor
        (E, *shape), floating point. Several tiles of one image are one label image: concatenate their pixels, so that the
        mean of an instance spans the tiles.
    labels : Tensor
        (*shape), integers; 0 is the background.
    delta_var : float
        Distance to the mean below which a pixel is not pulled, embedding units.
    delta_dist : float
        Two means closer than `2 * delta_dist` are pushed apart, embedding units.
    gamma : float
        Weight of the length of the means.
    background_is_instance : bool
        Treat label 0 as one more instance (as Rumberger et al. do), else leave it out.
    ignore : int, optional
        Label whose pixels count nowhere.
    neighbours : float, optional
        Push only pairs of instances whose gap (centroid distance minus both equivalent radii) is below this, pixels.
        Same-looking objects far apart can share a code: there are only f^(dl) codes (Corollary 2).
    positions : Tensor, optional
        (ndim, *shape) pixel coordinates for `neighbours`, where `labels` is not a dense window.

    Returns
    -------
    DiscriminativeLoss
        Sums are means over instances, and over pairs of different instances (A != B). All terms are 0, with a gradient,
        where there is no instance.

    Raises
    ------
    SettingsError
        If the shapes do not match.

    Source: De Brabandere et al. 2017, "Semantic Instance Segmentation with a Discriminative Loss Function".

    >>> labels = torch.tensor([[1, 1, 2, 2]])
    >>> embedding = torch.tensor([[[0.0, 0.0, 4.0, 4.0]]])
    >>> loss = discriminative_loss(embedding, labels)
    >>> float(loss.pull), float(loss.push)
    (0.0, 0.0)
    """
    for what, given in (("embedding", embedding), ("labels", labels)):
        if not isinstance(given, torch.Tensor) or given.is_complex() or not _is_plain(given):
            kind = f"{given.dtype}, {given.layout}" if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"
            raise SettingsError(f"the {what} of a loss is {kind}; give a dense tensor of real numbers (torch.as_tensor).")
    if embedding.ndim < 2 or embedding.shape[0] == 0 or labels.is_floating_point():
        raise SettingsError(
            f"the embedding has shape {tuple(embedding.shape)} and labels are {labels.dtype}; "
            "give (E, *shape) with E of 1 or more, and integers."
        )
    if embedding.shape[1:] != labels.shape:
        raise SettingsError(
            f"the embedding has shape {tuple(embedding.shape)} and the labels {tuple(labels.shape)}; "
            "give (E, *shape) and (*shape)."
        )
    keep = torch.ones_like(labels, dtype=torch.bool) if background_is_instance else labels != 0
    if ignore is not None:
        keep = keep & (labels != ignore)
    points = embedding[:, keep].T.float()  # (N, E)
    ids, index = torch.unique(labels[keep], return_inverse=True)
    if len(ids) == 0:
        zero = embedding.sum() * 0.0
        return DiscriminativeLoss(total=zero, pull=zero, push=zero, length=zero)
    sizes = torch.bincount(index, minlength=len(ids)).to(points.dtype)  # (K,)
    means = _mean_per_instance(points, index, sizes)  # (K, E)

    # vector_norm has subgradient 0 at 0, so instances of one pixel give finite gradients
    distance = torch.linalg.vector_norm(points - means[index], dim=1)
    outside = F.relu(distance - delta_var) ** 2
    pull = (torch.zeros_like(sizes).index_add(0, index, outside) / sizes).mean()
    push = _push(means, delta_dist, _places(labels, keep, index, sizes=sizes, limit=neighbours, positions=positions))
    length = torch.linalg.vector_norm(means, dim=1).mean()
    return DiscriminativeLoss(total=pull + push + gamma * length, pull=pull, push=push, length=length)


def _is_plain(values: Tensor) -> bool:
    """Whether it has values, one for each place."""
    odd = values.is_nested or values.is_quantized or values.device.type == "meta"
    return values.layout is torch.strided and not odd


def _mean_per_instance(values: Tensor, index: Tensor, sizes: Tensor) -> Tensor:
    total = torch.zeros((len(sizes), values.shape[1]), dtype=values.dtype, device=values.device)
    return total.index_add(0, index, values) / sizes[:, None]


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where instances lie, and how near to each other is near, pixels."""

    centres: Tensor  # (K, ndim)
    radii: Tensor  # (K,)
    limit: float

    def near(self, rows: slice, columns: slice) -> Tensor:
        """(rows, columns) whether two instances lie closer than the limit."""
        apart = torch.cdist(self.centres[rows], self.centres[columns])
        return apart - self.radii[rows, None] - self.radii[None, columns] < self.limit


def _push(means: Tensor, delta_dist: float, places: _Places | None) -> Tensor:
    """Mean over pairs A != B; pairs of equal means count too, else a network that fails on all of them looks perfect."""
    if len(means) > MOST_AT_ONCE:
        return _push_in_rows(means, delta_dist, places)
    first, second = torch.triu_indices(len(means), len(means), 1, device=means.device)
    if places is not None:
        chosen = places.near(slice(None), slice(None))[first, second]
        first, second = first[chosen], second[chosen]
    if len(first) == 0:
        return means.sum() * 0.0
    gap = torch.linalg.vector_norm(means[first] - means[second], dim=1)
    return (F.relu(2 * delta_dist - gap) ** 2).mean()


def _push_in_rows(means: Tensor, delta_dist: float, places: _Places | None) -> Tensor:
    """The same for any number of instances: some rows of pairs at a time, whose distances are made anew for the gradient."""

    def pushed(rows: slice, means: Tensor) -> tuple[Tensor, Tensor]:
        others = slice(rows.start, None)
        # by products of matrices means that nearly agree would lose their distance
        gap = torch.cdist(means[rows], means[others], compute_mode="donot_use_mm_for_euclid_dist")
        counted = torch.ones_like(gap, dtype=torch.bool).triu(1)
        if places is not None:
            counted &= places.near(rows, others)
        return (F.relu(2 * delta_dist - gap) ** 2 * counted).sum(), counted.sum()

    total, pairs = means.sum() * 0.0, 0
    step = max(1, MOST_AT_ONCE**2 // len(means))
    for start in range(0, len(means), step):
        part, count = checkpoint(pushed, slice(start, start + step), means, use_reentrant=False)
        total, pairs = total + part, pairs + int(count)
    return total / max(1, pairs)


def _places(
    labels: Tensor, keep: Tensor, index: Tensor, *, sizes: Tensor, limit: float | None, positions: Tensor | None
) -> _Places | None:
    """Where the instances lie, if only those nearer than `limit` pixels are pushed."""
    if limit is None:
        return None
    if positions is None:
        axes = [torch.arange(n, device=labels.device, dtype=torch.float32) for n in labels.shape]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    centres = _mean_per_instance(positions[:, keep].T, index, sizes)  # (K, ndim)
    ndim = centres.shape[1]
    unit_ball = {1: 2.0, 2: torch.pi, 3: 4 / 3 * torch.pi}[ndim]
    return _Places(centres=centres, radii=(sizes / unit_ball) ** (1 / ndim), limit=limit)


@dataclass(frozen=True, kw_only=True)
class GaussianLoss:
    """The three terms and their weighted sum, scalars."""

    total: Tensor  # `overlap + SPREAD_WEIGHT * spread + SEED_WEIGHT * seed`
    overlap: Tensor  # Lovasz hinge of each object's Gaussian against its mask, mean over objects
    spread: Tensor  # variance of the log bandwidth within an object, mean over objects
    seed: Tensor  # squared distance of the seed from the Gaussian of the pixel's own object, mean over pixels


def gaussian_loss(
    embedding: Tensor,
    labels: Tensor,
    *,
    log_bandwidth: Tensor,
    seed: Tensor,
    ignore: int | None = None,
    weights: Tensor | None = None,
) -> GaussianLoss:
    """Loss of one label image in which each object has a bandwidth of its own.

    The pixels of an object are those whose embedding lies within the Gaussian around the object's mean, so that small objects
    can lie close together and large ones be wide. Compared are the pixels in and around an object alone, as with
    `neighbours` of `discriminative_loss`.

    Parameters
    ----------
    embedding : Tensor
        (E, *shape), floating point; 2D or 3D.
    labels : Tensor
        (*shape), integers; 0 is the background.
    log_bandwidth : Tensor
        (*shape), logarithm of the standard deviation, embedding units.
    seed : Tensor
        (*shape), logits.
    ignore : int, optional
        Label whose pixels count nowhere.
    weights : Tensor, optional
        (*shape), how much a pixel's seed counts (see `object_weights`).

    Raises
    ------
    SettingsError
        If the shapes do not match.

    Source: Neven et al. 2019, "Instance Segmentation by Jointly Optimizing Spatial Embeddings and Clustering Bandwidth".

    >>> labels = torch.zeros((20, 20), dtype=torch.long)
    >>> labels[5:15, 5:15] = 1
    >>> embedding = torch.where(labels > 0, 0.0, 9.0)[None]  # one object, far from the background
    >>> seed = 999 * (labels - 0.5)
    >>> loss = gaussian_loss(embedding, labels, log_bandwidth=torch.zeros((20, 20)), seed=seed)
    >>> float(loss.overlap), float(loss.spread), float(loss.seed)
    (0.0, 0.0, 0.0)
    """
    shapes = {tuple(part.shape) for part in (embedding[0], log_bandwidth, seed, labels)}
    if len(shapes) > 1 or labels.ndim not in SURROUNDINGS:
        raise SettingsError(
            f"embedding, bandwidth, seed and labels have shapes {tuple(embedding.shape)}, {tuple(log_bandwidth.shape)}, "
            f"{tuple(seed.shape)} and {tuple(labels.shape)}; give (E, *shape) and three times (*shape) of 2 or 3 axes."
        )
    counted = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    near = torch.sigmoid(seed.float())
    zero = (embedding.sum() + log_bandwidth.sum()) * 0.0
    overlaps, spreads, wanted = [zero], [zero], torch.zeros_like(near)
    known = counted & (labels != 0)
    for number in torch.unique(labels[known]).tolist():
        inside = labels == number
        if int(inside.sum()) < FEWEST_PIXELS:
            known = known & ~inside
            continue
        part = _surroundings(inside)
        mask, scored = inside[part], counted[part]
        points, scale = embedding[(slice(None), *part)].float(), log_bandwidth[part].float()
        own = scale[mask].mean()
        mean = points[:, mask].mean(dim=1)
        square = ((points - mean.view(-1, *[1] * labels.ndim)) ** 2).sum(dim=0)
        profile = torch.exp(-0.5 * square * torch.exp(-2 * own))
        wanted[inside] = profile[mask].detach()
        spreads.append(((scale[mask] - own.detach()) ** 2).mean())
        sign = 2 * mask[scored].float() - 1
        overlaps.append(_lovasz_hinge(1 - (2 * profile[scored] - 1) * sign, mask[scored]))
    count = max(1, len(overlaps) - 1)
    overlap, spread = torch.stack(overlaps).sum() / count, torch.stack(spreads).sum() / count
    asked = (counted & (labels == 0)) | known
    amounts = asked.float() if weights is None else asked * weights
    miss = (amounts * (near - wanted) ** 2).sum() / amounts.sum().clamp(min=1.0)
    return GaussianLoss(total=overlap + SPREAD_WEIGHT * spread + SEED_WEIGHT * miss, overlap=overlap, spread=spread, seed=miss)


def _surroundings(inside: Tensor) -> tuple[slice, ...]:
    """Window of an object and what lies around it."""
    places = torch.nonzero(inside)
    part = []
    for first, last in zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True):
        around = max(SURROUNDINGS[inside.ndim], int(SURROUNDINGS_SHARE * (last - first + 1)))
        part.append(slice(max(0, first - around), last + 1 + around))
    return tuple(part)


def _lovasz_hinge(errors: Tensor, truth: Tensor) -> Tensor:
    """Convex surrogate of 1 - IoU of a set of pixels (Berman et al. 2018).

    errors : (N,) hinge errors, 0 or less where a pixel is safely right. truth : (N,) bool, at least one of them true.
    """
    errors, order = torch.sort(errors, descending=True)
    hit = truth[order].float()
    lost = 1 - (hit.sum() - hit.cumsum(0)) / (hit.sum() + (1 - hit).cumsum(0))
    return (F.relu(errors) * torch.diff(lost, prepend=lost.new_zeros(1))).sum()


def object_weights(labels: Tensor, power: float) -> Tensor:
    """(*shape) weight of each pixel: (usual size / size of its object) ** power within bounds, 1 on the background.

    With power 0 all pixels weigh alike, and with 1 all objects, as far as `MOST_WEIGHT` allows.

    >>> labels = torch.zeros((20, 40), dtype=torch.long)
    >>> labels[:10, :10], labels[:, 20:] = 1, 2
    >>> object_weights(labels, 0.5)[0, [0, 15, 30]].tolist()
    [2.0, 1.0, 1.0]
    """
    _, index, sizes = torch.unique(labels.clamp(min=0), return_inverse=True, return_counts=True)
    weight = ((USUAL_SIZE[labels.ndim] / sizes) ** power).clamp(1 / MOST_WEIGHT, MOST_WEIGHT)
    return torch.where(labels > 0, weight[index], 1.0)


def foreground_loss(logits: Tensor, labels: Tensor, ignore: int | None = None, *, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy plus soft Dice of a foreground logit, mean over the counted pixels.

    Parameters
    ----------
    logits : Tensor
        (*shape), foreground logits.
    labels : Tensor
        (*shape), integers; all but 0 are foreground.
    ignore : int, optional
        Label whose pixels do not count.
    weights : Tensor, optional
        (*shape), how much each pixel counts; all alike by default.
    """
    keep = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    logit, truth = logits[keep].float(), (labels[keep] != 0).float()
    if len(logit) == 0:
        return logits.sum() * 0.0
    guess = torch.sigmoid(logit)
    if weights is None:
        dice = 1 - (2 * (guess * truth).sum() + 1) / (guess.sum() + truth.sum() + 1)
        return F.binary_cross_entropy_with_logits(logit, truth) + dice
    weight = weights[keep]
    dice = 1 - (2 * (weight * guess * truth).sum() + 1) / ((weight * guess).sum() + (weight * truth).sum() + 1)
    return F.binary_cross_entropy_with_logits(logit, truth, weight) + dice
