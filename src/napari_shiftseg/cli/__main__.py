"""`python -m napari_shiftseg.cli`: the command without its script."""

import sys

from napari_shiftseg.cli import main

sys.exit(main())
