"""Labels of an image block by block, in one process."""

import numpy as np

from napari_shiftseg.events import drain
from napari_shiftseg.geometry import BlockGrid
from napari_shiftseg.instances import (
    BlockFaces,
    BlockRest,
    Settling,
    faces_of,
    fragments_of,
    join_blocks,
    join_rest,
    piece_steps,
)


def labels_by_blocks(embedding, foreground, wish, edge, **said):
    """Labels block by block, with nothing but faces passed between blocks; `said`: seeds and bandwidths."""
    shape = embedding.shape[1:]
    grid = BlockGrid(shape=shape, edge=edge, halo=wish.lattice(len(shape))[1])
    codes, faces = {}, {}
    for block in grid:
        own = None if foreground is None else foreground[block.core]
        seen = None if foreground is None else foreground[block.seen]
        part = {name: values[block.seen] for name, values in said.items()}
        steps = piece_steps(embedding[(slice(None), *block.seen)], seen, wish, inner=block.inner, origin=block.origin, **part)
        found = drain(steps)
        corner = [part.start for part in block.core]
        fragments = fragments_of(found, own, wish, corner=corner, image_shape=shape)
        codes[block.number] = fragments.codes
        faces[block.number] = BlockFaces.from_arrays(faces_of(found, fragments).to_arrays())
    found = join_blocks(grid, faces.__getitem__, wish)

    def settling(block, numbers):
        load = faces.__getitem__
        return Settling(grid=grid, block=block, codes=codes[block.number], numbers=numbers, load=load, window=32)

    parts = [settling(block, found).rest().to_arrays() for block in grid]
    numbers = join_rest(grid, lambda number: BlockRest.from_arrays(parts[number]), found, settings=wish)
    labels = np.zeros(shape, np.uint32)
    for block in grid:
        labels[block.core] = settling(block, numbers).labels()
    assert numbers.count == labels.max()
    return labels
