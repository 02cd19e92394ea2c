"""The discriminative loss: pixels of an instance together, instances apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_shiftseg.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class DiscriminativeLoss:
    """The three terms and their weighted sum, scalars."""

    total: Tensor  # `pull + push + gamma * length`
    # pull, push, length: variance, distance and regularisation term of De Brabandere et al. 2017.
    pull: Tensor
    push: Tensor
    length: Tensor


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
    push = _push(means, delta_dist, _near(labels, keep, index, sizes=sizes, limit=neighbours, positions=positions))
    length = torch.linalg.vector_norm(means, dim=1).mean()
    return DiscriminativeLoss(total=pull + push + gamma * length, pull=pull, push=push, length=length)


def _mean_per_instance(values: Tensor, index: Tensor, sizes: Tensor) -> Tensor:
    total = torch.zeros((len(sizes), values.shape[1]), dtype=values.dtype, device=values.device)
    return total.index_add(0, index, values) / sizes[:, None]


def _push(means: Tensor, delta_dist: float, near: Tensor | None) -> Tensor:
    """Mean over pairs A != B; pairs of equal means count too, else a network that fails on all of them looks perfect."""
    first, second = torch.triu_indices(len(means), len(means), 1, device=means.device)
    if near is not None:
        chosen = near[first, second]
        first, second = first[chosen], second[chosen]
    if len(first) == 0:
        return means.sum() * 0.0
    gap = torch.linalg.vector_norm(means[first] - means[second], dim=1)
    return (F.relu(2 * delta_dist - gap) ** 2).mean()


def _near(
    labels: Tensor, keep: Tensor, index: Tensor, *, sizes: Tensor, limit: float | None, positions: Tensor | None
) -> Tensor | None:
    """(K, K) whether two instances lie closer than `limit` pixels."""
    if limit is None:
        return None
    if positions is None:
        axes = [torch.arange(n, device=labels.device, dtype=torch.float32) for n in labels.shape]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    centres = _mean_per_instance(positions[:, keep].T, index, sizes)  # (K, ndim)
    ndim = centres.shape[1]
    unit_ball = {1: 2.0, 2: torch.pi, 3: 4 / 3 * torch.pi}[ndim]
    radii = (sizes / unit_ball) ** (1 / ndim)
    return torch.cdist(centres, centres) - radii[:, None] - radii[None, :] < limit


def foreground_loss(logits: Tensor, labels: Tensor, ignore: int | None = None) -> Tensor:
    """Binary cross-entropy plus soft Dice of a foreground logit, mean over the counted pixels.

    Parameters
    ----------
    logits : Tensor
        (*shape), foreground logits.
    labels : Tensor
        (*shape), integers; all but 0 are foreground.
    ignore : int, optional
        Label whose pixels do not count.
    """
    keep = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    logit, truth = logits[keep].float(), (labels[keep] != 0).float()
    if len(logit) == 0:
        return logits.sum() * 0.0
    guess = torch.sigmoid(logit)
    dice = 1 - (2 * (guess * truth).sum() + 1) / (guess.sum() + truth.sum() + 1)
    return F.binary_cross_entropy_with_logits(logit, truth) + dice
