"""The command `shiftseg`, and `python -m napari_shiftseg`."""

import sys

from napari_shiftseg import signals


def main() -> int:
    """Run the command of this process; `cli.main` says what it returns."""
    signals.begin()
    from napari_shiftseg import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
