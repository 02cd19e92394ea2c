"""The numbers of this room, and where each comes from."""

from __future__ import annotations

from typing import Final

# -- memory -----------------------------------------------------------------------------------------------------------

# What Python with torch and zarr takes before any pixel is read, bytes (measured: 330 to 420 MB).
BASE: Final = 420 << 20
# Pieces, fragments and the shards being written, bytes per pixel of a block.
PER_PIXEL: Final = 28
# Labels and intermediate labels with their pyramids, compressed, bytes per pixel: generous, to refuse in time.
DISK_PER_PIXEL: Final = 1.0
# Memory that a run out of core takes when nothing is said: half of what is free, but no more than this.
DEFAULT_MEMORY: Final = 4 << 30
# Share of the free memory that a result may take.
RESULT_SHARE: Final = 0.6
# What a pass of the network may take in any case where the run is bounded, bytes: that of a tile of some 64 px.
SMALLEST_PASS: Final = 16 << 20
# Tiles of a frame beyond which the memory that is allowed is refused: each takes some ms, so that this many take hours (and
# 12,288 x 12,288 px have 2,304 of 256 px).
MOST_TILES: Final = 1 << 20
# Decoded chunks that a run in memory keeps, since tiles overlap, bytes.
CHUNK_BUDGET: Final = 256 << 20
# Decoded chunks that are kept while the image is looked at, bytes; a run sets its own.
LOOK_BUDGET: Final = 32 << 20
# Tiles of an embedding on demand that are kept, bytes: some 60 of 512 px with 3 channels.
CACHE: Final = 256 << 20

# -- blocks -----------------------------------------------------------------------------------------------------------

# Larger blocks save little (halo 64 px: 3 % more pixels at 8192 px, 6 % at 4096 px) and make few, long tasks.
LARGEST: Final = {2: 4096, 3: 512}
# Share of the tiles' arithmetic below which blocks are streamed.
WORTH_IT: Final = 0.8
# Windows that are clustered side by side; more would wait for each other's Python.
MOST_THREADS: Final = 4
# Faces of blocks that are kept, for their neighbours.
KEPT_FACES: Final = 256
# Longest silence of a run, seconds: so long does cancelling wait.
PATIENCE: Final = 0.2
# Blocks whose labels are written side by side.
WRITERS: Final = 2
# Raised whenever the same embedding gets other labels, or blocks leave other files: no run goes on with half of each.
LABELS: Final = 2
# Raised whenever parts of an unfinished run are written otherwise.
PARTS: Final = 1
# A pyramid ends with a level that is smaller, on y and x: a screen shows it whole.
SMALLEST_LEVEL: Final = 256

# -- workers ----------------------------------------------------------------------------------------------------------

# Tasks per worker that the scheduler knows at once: enough that no worker waits, few enough for a scheduler that never sees
# the millions of blocks of a large run.
AHEAD: Final = 4
# Bytes that a worker takes before it has any work: Python, PyTorch and dask have some 250 MB.
WORKER_BYTES: Final = 200_000_000
# Pixels that a task holds at least, so that it takes longer than handing it out does.
LEAST_PIXELS: Final = 2 << 20
# Times that a task is begun before its failure is the run's: workers die of other things than their task.
TRIES: Final = {"killed": 10, "failed": 3}
# Longest silence of a run, seconds: so long does cancelling wait.
SCHEDULER_PATIENCE: Final = 0.5
# Seconds after which a scheduler that does not answer is called lost, and after which a process of our own is ended.
CONNECT: Final = 6
CLOSING: Final = 10
# A worker asks the disk this often whether its work is still wanted, seconds.
ASK_EVERY: Final = 1.0

# -- the image --------------------------------------------------------------------------------------------------------

# Shares of the pixels below and above the limits, and parts of the scale, from which a result is to be mistrusted. At less than
# a quarter of the scale an object is fainter than any that training showed (see `network.robust`).
BELOW: Final = 0.8
ABOVE: Final = 0.25
NARROW: Final = 0.1
FAINT: Final = 0.25
# Objects per million pixels of a plane below which a result is nearly empty.
SPARSE: Final = 4.0
# Pixels that are looked at at once for those without data.
SLAB: Final = 1 << 22
# Pixels that are summed at once: their products stay in the cache of a core, 2 ns each in place of 8 with 2^22.
AT_ONCE: Final = 1 << 16
# Frames of a series that are looked at; each trait is the median over them.
FRAMES: Final = 5
# Objects are larger than detail: windows that they are measured in, by number of axes.
FOUND_EDGE: Final = {2: 512, 3: 96}
# Scales at which an unlike image is looked at again.
SCALES: Final = (0.25, 0.5, 2.0, 4.0)
# Images that the network runs over again; what it finds in more of them changes no range by much.
RUNS: Final = 100
# With fewer images than this, their windows count as images too, and are small.
FEW: Final = 32
# Edges of those, by number of axes, pixels.
SMALL: Final = {2: 128, 3: 48}
# Places along the diagonal of the middle frame at which tiles are tried, and seconds after which no further one is.
PLACES: Final = (0.5, 0.25, 0.75)
LONGEST: Final = 3.0

# -- the size of the objects ------------------------------------------------------------------------------------------

# Scales at which a coarse pass looks for objects, network pixels per image pixels.
TRIED: Final = ((1, 4), (3, 8), (1, 2), (3, 4), (1, 1), (3, 2), (2, 1), (3, 1), (4, 1))
# Places that it looks at, and edges of what it sees of each by number of axes, network pixels; and the least that it sees.
MEASURED_PLACES: Final = 3
MEASURED_EDGE: Final = {2: 256, 3: 64}
LEAST_MEASURED: Final = {2: 24, 3: 8}
# Agreement (a share of the pixels) that a size costs which is e times what the model knows. Of small validation images of
# nuclei, with 0.02 to 0.2 the measured median was off by 10 % in the mean and by 35 % at most.
UNUSUAL: Final = 0.1
# Objects are about as large as those that a model knows between these shares of its typical diameter. With `nuclei`, small
# validation images magnified by 1 to 4 then keep an AP of 0.80 to 0.82 (as they are: 0.82); with all objects brought to the
# typical diameter 0.80 to 0.81, with up to twice of it left 0.78 to 0.82. Below it, objects of half the size lose much.
ABOUT: Final = (1.0, 4 / 3)
# Micrometres per unit, of the lengths that files state.
MICROMETRES: Final = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "meter": 1e6, "angstrom": 1e-4}

# -- jobs ------------------------------------------------------------------------------------------------------------

# Raised when older versions of this package could no longer read a job.
JOB_VERSION: Final = 1
# Frames of no more pixels than this are compared whole with those of the file; of larger ones, windows of them are.
EVERYTHING: Final = 1 << 26
# Calls up to this many characters stay on one line.
LINE: Final = 100
