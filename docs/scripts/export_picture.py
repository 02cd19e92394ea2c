"""Draw the picture of docs/export.md: the outlines of a GeoJSON file over the image that they were made from, much enlarged.

    python docs/scripts/export_picture.py

The bundled image is segmented, exported and read again, so what is drawn is what QuPath gets: each outline runs on the edges of
pixels.
"""

import argparse
import json
import tempfile
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path

import numpy as np
from skimage.draw import line
from tifffile import imread

from napari_shiftseg import cli
from napari_shiftseg.picture import encode_png, instance_colours

IMAGES = Path(__file__).resolve().parents[1] / "images"
CORNER, EDGES, TIMES = (324, 444), (72, 110), 9  # y, x, where nuclei touch; pixels of the picture for each


def sample():
    """(y, x) bytes of the bundled image of nuclei."""
    with as_file(files("napari_shiftseg") / "samples" / "nuclei.tif") as path:
        return imread(path)


def rings(geometry):
    """(N, 2) corners of all outlines of an object, x before y as GeoJSON has them, holes included."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [np.array(ring) for part in parts for ring in part]


def drawn(image, features):
    """(height, width, 3) bytes: the window of the image, with outlines two pixels wide."""
    window = image[tuple(slice(start, start + edge) for start, edge in zip(CORNER, EDGES, strict=True))].astype(float)
    grey = np.clip(window / np.percentile(window, 99.8), 0, 1) ** 0.6
    picture = np.repeat(np.kron(grey, np.ones((TIMES, TIMES)))[..., None], 3, axis=2)
    for number, feature in enumerate(features, 1):
        colour = instance_colours(np.full((1, 1), number))[0, 0]
        for ring in rings(feature["geometry"]):
            places = np.rint((ring[:, ::-1] - CORNER) * TIMES).astype(int)
            for start, stop in pairwise(places):
                y, x = line(*start, *stop)
                for dy, dx in ((0, 0), (-1, 0), (0, -1), (-1, -1)):
                    inside = (y + dy >= 0) & (y + dy < picture.shape[0]) & (x + dx >= 0) & (x + dx < picture.shape[1])
                    picture[y[inside] + dy, x[inside] + dx] = colour
    return (255 * picture).astype(np.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES)
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "nuclei.npy", sample())
        for words in (
            ["segment", folder / "nuclei.npy", "--axes", "yx", "--model", "nuclei", "--out", folder / "r.ome.zarr", "--quiet"],
            ["export", folder / "r.ome.zarr", folder / "r.geojson", "--quiet"],
        ):
            assert cli.main([str(word) for word in words]) == 0
        said = json.loads((folder / "r.geojson").read_text(encoding="utf-8"))
    (wishes.out / "export.png").write_bytes(encode_png(drawn(sample(), said["features"] if isinstance(said, dict) else said)))


if __name__ == "__main__":
    main()
