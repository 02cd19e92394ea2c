"""`python -m napari_shiftseg.cli`: the command without its script."""

import sys

from napari_shiftseg import signals
from napari_shiftseg.cli import main

signals.begin()
sys.exit(main())
