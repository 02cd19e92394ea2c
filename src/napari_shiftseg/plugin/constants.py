"""The numbers of this room, and where each comes from."""

from typing import Final

# -- before a run -----------------------------------------------------------------------------------------------------

# Tile sizes that would make more tiles than this are not offered: they are slow to plan, and nobody wants them.
MOST_TILES: Final = 20_000
# Milliseconds between two pictures of a recipe that is being changed.
PREVIEW_PAUSE: Final = 100
# Edges of the picture of a recipe by its number of axes, pixels: drawn in a tenth of a second or less.
PREVIEW_CROP: Final = {1: (256,), 2: (256, 256), 3: (12, 96, 96)}
# Height of the picture of a line, pixels.
STRIPE: Final = 24

# -- the window -------------------------------------------------------------------------------------------------------

# Lines of text that stay in view below a widget: a fifth of the dock of a window of 480 px, which is 720 px at 150 %.
FOOT_LINES: Final = 5
# Of a widget, pixels: two columns of text and a field.
LEAST_WIDTH: Final = 300
# Of the names in a list of images, pixels at most: a third of a dock, so that what became of each image stands beside its name.
NAME_WIDTH: Final = 120
# Milliseconds until a change of a control is kept: one write for what is typed or turned in one go.
KEEP_PAUSE: Final = 400
# Paces of so many models, devices and number formats are kept: a line of text each.
MOST_PACES: Final = 50
# A plan that computes as much as so many passes over the image is called wasteful: those that are chosen by themselves come to
# 1.1 to 1.5 where the memory suffices.
WASTE: Final = 3.0
# Seconds that the end of a process waits for jobs that were stopped: most end at their next step, a tile or a block.
LAST_WAIT: Final = 2.0

# -- layers -----------------------------------------------------------------------------------------------------------

# Parts of a stored result up to so many bytes are read whole: labels can be painted in then, and sliders wait for no disk.
WHOLE_BYTES: Final = 64 << 20
# Instances of which a layer has features: napari takes seconds for tables of millions of rows.
MOST_FEATURES: Final = 200_000
# Seconds between two drawings of blocks that finish.
LIVE_EVERY: Final = 1.0
# A layer is drawn in a fifth of the time at most, however slow it is.
DRAWING_SHARE: Final = 5

# -- the embedding of the view ----------------------------------------------------------------------------------------

# Milliseconds that the view has to stand still.
VIEW_REST: Final = 300
# Seconds between two drawings of tiles that finish.
VIEW_EVERY: Final = 0.3
# Tiles of a view: more take minutes, and zooming in is faster.
MOST_VIEWED: Final = 64
# Contrast limits until something is known, or the user sets others.
UNKNOWN_RANGE: Final = (-1.0, 1.0)

# -- inspecting -------------------------------------------------------------------------------------------------------

# Bytes of embedding that are read at once.
READ_BYTES: Final = 64 << 20
# Pixels of the single pass that tiles are compared with: a minute on a laptop.
VERIFIED: Final = 1 << 20
# Bytes of labels that can be outlined.
HIGHLIGHTED_BYTES: Final = 1 << 30
# Differences below the rounding of float32 in embeddings of about 1 to 10 are drawn as this.
DIFFERENCE_FLOOR: Final = 1e-6
# Of a view, that a result which is fitted to it takes, as napari does it.
VIEW_SHARE: Final = 0.95
# napari's largest number of layers in a view of a grid.
MOST_STRIDE: Final = 50
# Lines of a box that is drawn in space; more are slow to turn around on a machine without a GPU.
MOST_BOX_LINES: Final = 3000
# Screen pixels per pixel at which a seam can be judged.
CLOSE: Final = 3.0
# Width of lines, screen pixels, and their opacity.
LINE_WIDTH: Final = {"seams": 2.5, "grid": 1.5}
LINE_OPACITY: Final = {"seams": 0.9, "grid": 0.7}
# Lines are made for so much of the view around it; unequal, so that one move does not make both anew.
LINES_AROUND: Final = {"seams": 0.8, "grid": 0.5}
# Of the plot of jumps, pixels: height of a row, and margins.
PLOT_ROW: Final = 46
PLOT_TOP: Final = 8
PLOT_BOTTOM: Final = 40
PLOT_SIDE: Final = 12
# Of the histogram of sizes: its height and how near the mouse has to be to the line, pixels; and its bars, a tenth of a power
# of ten wide for objects of up to a million pixels.
SIZE_PLOT: Final = 110
GRIP: Final = 6
SIZE_BINS: Final = 60

# -- tuning -----------------------------------------------------------------------------------------------------------

# Milliseconds that a slider has to stand still.
TUNE_PAUSE: Final = 150

# -- correcting -------------------------------------------------------------------------------------------------------

# Screen pixels that the mouse may move between press and release of a click; farther is a drag, which moves the camera.
CLICK: Final = 4

# -- measuring --------------------------------------------------------------------------------------------------------

# Numbers of objects up to which a table says the colour of each; it takes up to four bytes for each of them.
LOOKED_UP: Final = 1 << 24
# Pixels whose colours are looked up at once: 32 MB of indices.
PIXELS_AT_ONCE: Final = 1 << 22
# Places in a table of colours: of the background, of objects without a colour of their own, and of the first with one.
BACKGROUND: Final = 0
OTHERS: Final = 1
FIRST: Final = 2
# Of the plot of objects: its height and margins, pixels, and the bars of a histogram.
OBJECT_PLOT: Final = 210
OBJECT_LEFT: Final = 62
OBJECT_BOTTOM: Final = 34
OBJECT_TOP: Final = 8
OBJECT_BINS: Final = 40
# Objects that are drawn as points one by one; 16,000 took a third of a second.
MOST_ROUND: Final = 3000
# Objects that are listed; more are counted.
MOST_LISTED: Final = 500
# Of the opacity of an object, what is left beside those that are highlighted.
DIMMED: Final = 0.2
# Colour of an object that has no value.
UNKNOWN_COLOUR: Final = (0.5, 0.5, 0.5, 1.0)

# Images of one file that are opened as layers; a plate has hundreds, and a list of layers that long is no help.
MOST_SCENES: Final = 24
