"""Networks with weights by hand and images for them, for tests in which nothing shall be trained."""

import numpy as np
import torch

from napari_shiftseg import UNet, UNetSpec
from napari_shiftseg.network import Clustering, Model, ModelRecord, Normalisation

# intensities of 0 to 1 stay as they are
WHOLE_RANGE = Normalisation(low=0, high=100)
UNCHANGED = Normalisation(low=0, high=0)


def grey_net(spec, deep=0.0):
    """Weights by hand: the embedding is ten times the grey value, the foreground what is above a quarter.

    `deep` lets the path through the poolings speak too, so that the position modulo the period shows.
    """
    torch.manual_seed(0)
    net = UNet(spec).eval().requires_grad_(False)
    middle = tuple((k - 1) // 2 for k in spec.kernels)
    for block in (net.encoder[0], net.decoder[0]):
        for layer in block:
            if hasattr(layer, "weight"):
                layer.weight[0] = 0
                layer.weight[(0, 0, *middle)] = 1
    net.head.weight.zero_()
    net.head.weight[0, 0] = 10
    net.head.weight[1, 1:] = deep
    if spec.foreground:
        net.head.weight[spec.embedding_dim, 0] = 40
        net.head.bias[spec.embedding_dim] = -10
    return net


def grey_model(ndim=2, deep=0.0, window=None, normalisation=WHOLE_RANGE, digest="", known=None, **values):
    """A model of `grey_net`; values are those of its spec."""
    spec = UNetSpec(**{"ndim": ndim, "levels": 1, "features": 3, "embedding_dim": 2, "foreground": True, **values})
    record = ModelRecord(
        window=window or (6,) * ndim,
        normalisation=normalisation,
        clustering=Clustering(bandwidth=0.4, min_size=4, min_density=1.0),
        neighbours=spec.padding == "zero",
        known=known,
    )
    return Model(spec=spec, module=grey_net(spec, deep), record=record, name="grey", hash=digest)


def bars(shape, seed=0):
    """Bars of few grey values, up to 100 px long, so that many cross the borders of blocks; some touch at a corner."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    for _ in range(int(np.prod(shape) / 900) + 1):
        corner = [int(rng.integers(0, n)) for n in shape]
        edges = rng.permutation([int(rng.integers(20, 100)), *(int(rng.integers(3, 7)) for _ in shape[1:])])
        image[tuple(slice(c, c + e) for c, e in zip(corner, edges, strict=True))] = rng.choice([0.4, 0.6, 0.8, 1.0])
    return image
