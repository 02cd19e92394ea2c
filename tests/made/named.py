"""A network that says five things, for tests in which all of them shall come to the end."""

import torch
from grey import grey_model

from napari_shiftseg import Output
from napari_shiftseg.network import Model

BANDWIDTH = Output(name="bandwidth", channels=slice(2, 3), activation="exp", meaning="bandwidth")
SEED = Output(name="seed", channels=slice(3, 4), activation="sigmoid", meaning="probability")
FLOW = Output(name="flow", channels=slice(4, 6), meaning="value")
# neither in the order of the channels nor in that of the alphabet
OUTPUTS = (
    SEED,
    Output(name="embedding", channels=slice(0, 2)),
    Output(name="foreground", channels=slice(6, 7), activation="sigmoid", meaning="probability"),
    FLOW,
    BANDWIDTH,
)


def named_model(ndim=2, outputs=OUTPUTS, **values):
    """`grey_model` with three further outputs, which say something of their own in each channel and at each position."""
    made = grey_model(ndim, **{"deep": 0.5, "embedding_dim": 6, **values})
    torch.manual_seed(3)
    with torch.no_grad():
        made.module.head.weight[2:6] = 0.3 * torch.randn_like(made.module.head.weight[2:6])
        made.module.head.bias[2:6] = torch.tensor([-0.5, 0.5, -2.0, 0.1])
    return Model(spec=made.spec, module=made.module, outputs=outputs, record=made.record, name="named")
