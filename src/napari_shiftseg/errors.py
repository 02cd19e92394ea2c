"""Every error that the package raises on purpose; each carries its remedy as data.

None derives from `RuntimeError`: a generator worker of napari swallows those without a signal.
"""

from __future__ import annotations

__all__ = [
    "CancelledError",
    "ComplianceError",
    "DeviceError",
    "ImageError",
    "ModelError",
    "OutOfMemoryError",
    "ResultError",
    "SettingsError",
    "ShiftsegError",
    "SizeError",
    "TilingError",
]


class ShiftsegError(Exception):
    """Base of all errors of this package: one sentence that says what was given, what is wanted, what to do."""


class SettingsError(ShiftsegError, ValueError):
    """A parameter has a value that cannot work."""


class SizeError(ShiftsegError, ValueError):
    """A size that no valid pass of the network has.

    Attributes
    ----------
    nearest : tuple of int
        Legal sizes next to the given one, pixels.
    """

    def __init__(self, message: str, *, nearest: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest


class TilingError(SizeError):
    """A tile size or an image size from which no tile plan can be made; `nearest` as in `SizeError`."""


class ComplianceError(ShiftsegError, ValueError):
    """A rule of shift-equivariant tiling or training is broken and was not allowed on purpose.

    Attributes
    ----------
    violations : tuple of geometry.Violation
        The broken rules, each with the nearest legal value.
    """

    def __init__(self, message: str, *, violations: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class DeviceError(ShiftsegError, ValueError):
    """The wanted device or number format is not there."""


class OutOfMemoryError(ShiftsegError, MemoryError):
    """The device ran out of memory (PyTorch's own error is a RuntimeError and is converted to this)."""


class ImageError(ShiftsegError, ValueError):
    """A file or array that cannot be read as an image."""


class ModelError(ShiftsegError, ValueError):
    """A file or name that is not a model of this package."""


class ResultError(ShiftsegError, ValueError):
    """A result that cannot be written or opened."""


class CancelledError(ShiftsegError):
    """The user stopped the work; nothing was written."""
