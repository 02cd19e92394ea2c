"""Every error that the package raises on purpose; each carries its remedy as data.

None derives from `RuntimeError`: a generator worker of napari swallows those without a signal.
"""

from __future__ import annotations

import errno
import re
from typing import Self

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

# Words of the allocators and libraries below PyTorch, which have no error class of their own or not always: the processor's on
# Linux and Windows, CUDA, cuDNN, cuBLAS, ROCm, XPU, Apple's MPS, OpenVINO. What cuDNN says of its algorithms means that none
# had the memory it needs, unless the installation is broken.
_NO_MEMORY = re.compile(
    r"out of (?:\w+ )?memory|out_?of_?(?:\w+_)?memory|out_of_resources|memory_?allocation\b|not enough memory|bad_alloc"
    r"|(?:can't|cannot|could not|failed to|unable to) allocate|alloc(?:ation)?_?failed|status_memory_error"
    r"|unable to find (?:a valid cudnn algorithm|an engine to execute)|invalid buffer size: [\d.]+ [kmgt]i?b",
    re.IGNORECASE,
)


# Letters of an error, a choice: a screen of a terminal, which is more than any sentence takes that quotes no file.
_LONGEST = 2000


def _sentence(text: str) -> str:
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


class ShiftsegError(Exception):
    """Base of all errors of this package: one sentence that says what was given, what is wanted, what to do.

    What it quotes of files may be anything, and ends in a terminal: it has one line, no control characters, and an end.

    >>> print(str(ShiftsegError("no axis " + chr(27) + "[31m")).replace(chr(92), "/"))
    no axis /x1b[31m
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_sentence(one) if isinstance(one, str) else one for one in args))


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

    @classmethod
    def of_channels(cls, gets: int, wanted: int, *, name: str = "the image", there: int | None = None) -> Self:
        """The network wants another number of channels than it gets, of those that are there.

        >>> print(ImageError.of_channels(3, 1))
        the image gives 3 channels and the network wants 1; choose 1 (channels 0 to 2), or call the right axis c.
        """
        most = (gets if there is None else there) - 1
        return cls(
            f"{name} gives {gets} channel{'s' * (gets != 1)} and the network wants {wanted}; choose {wanted} "
            f"({f'channels 0 to {most}' if most > 0 else 'one channel may be chosen several times'}), or call the right axis c."
        )


class ModelError(ShiftsegError, ValueError):
    """A file or name that is not a model of this package."""


class ResultError(ShiftsegError, ValueError):
    """A result that cannot be written or opened."""


class CancelledError(ShiftsegError):
    """The user stopped the work; nothing was written."""


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, of the processor or of a GPU.

    >>> memory_ran_out(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")), memory_ran_out(RuntimeError("no such size"))
    (True, False)
    """
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
