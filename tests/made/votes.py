"""What a network with seeds would say of label images, nearly without fault."""

import numpy as np

UNIT_BALL = {1: 2.0, 2: np.pi, 3: 4 * np.pi / 3}


def said_of(labels, *, share=0.5, noise=0.1, seed=0):
    """Offsets (N, *shape), foreground, seeds and bandwidths of objects.

    `share`: bandwidth of an object in radii of a ball of its size; `noise`: how far votes scatter, in bandwidths.
    """
    rng, ndim = np.random.default_rng(seed), labels.ndim
    places = np.indices(labels.shape).astype(float)
    offsets, widths, seeds = np.zeros_like(places), np.ones(labels.shape), np.zeros(labels.shape)
    for number in np.unique(labels[labels > 0]):
        mask = labels == number
        width = max(1.0, share * (mask.sum() / UNIT_BALL[ndim]) ** (1 / ndim))
        error = rng.normal(0, noise * width / ndim**0.5, (ndim, int(mask.sum())))
        offsets[:, mask] = places[:, mask].mean(axis=1)[:, None] - places[:, mask] + error
        widths[mask], seeds[mask] = width, np.exp(-0.5 * (error**2).sum(axis=0) / width**2)
    return offsets, (labels > 0).astype(np.float32), seeds, widths


def balls(shape, *circles):
    """Label image of balls, each given as its centre and its radius; the first one that holds a pixel has it."""
    place, labels = np.indices(shape), np.zeros(shape, np.int64)
    for number, (*centre, radius) in enumerate(circles, 1):
        square = sum((axis - c) ** 2 for axis, c in zip(place, centre, strict=True))
        labels[(square <= radius**2) & (labels == 0)] = number
    return labels


def renamed(labels, other):
    """Whether two label images differ in nothing but the numbers."""
    pairs = np.unique(np.stack([labels.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs) and ((labels == 0) == (other == 0)).all()
