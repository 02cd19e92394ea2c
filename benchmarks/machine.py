"""The machine that measures; without numpy or PyTorch, for scripts that must stay small themselves."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Name of the processor, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
