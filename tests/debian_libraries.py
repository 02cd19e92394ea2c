"""Make the system libraries for Qt, OpenGL and a virtual display available to the tests.

Nothing happens where all are there. On Debian or Ubuntu, root installs the missing ones by apt; whoever is not root
gets the line to run. Elsewhere the missing libraries are named.
"""

import ctypes
import os
import shutil
import subprocess
import sys

# Debian package -> what it brings: a library's soname, or a program
WANTED = {
    "xvfb": "Xvfb",
    "xauth": "xauth",
    "libegl1": "libEGL.so.1",
    "libgl1": "libGL.so.1",
    "libdbus-1-3": "libdbus-1.so.3",
    "libfontconfig1": "libfontconfig.so.1",
    "libglib2.0-0": "libglib-2.0.so.0",
    "libxcb-cursor0": "libxcb-cursor.so.0",
    "libxcb-icccm4": "libxcb-icccm.so.4",
    "libxcb-keysyms1": "libxcb-keysyms.so.1",
    "libxcb-shape0": "libxcb-shape.so.0",
    "libxkbcommon-x11-0": "libxkbcommon-x11.so.0",
}


def is_there(wanted: str) -> bool:
    if ".so." not in wanted:
        return shutil.which(wanted) is not None
    try:
        ctypes.CDLL(wanted)
    except OSError:
        return False
    return True


def install(packages: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], check=True, env=environment)
    subprocess.run([*apt, "install", "--no-install-recommends", *packages], check=True, env=environment)


def main() -> int | str:
    if not sys.platform.startswith("linux"):
        return 0
    missing = {package: wanted for package, wanted in WANTED.items() if not is_there(wanted)}
    if not missing:
        return 0
    if shutil.which("apt-get") is None:
        return f"The napari tests need {', '.join(missing.values())}; install them with this system's package manager."
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0:
        return f"The napari tests need system libraries that are not here; run once: sudo {command}"
    try:
        install(list(missing))
    except subprocess.CalledProcessError:
        return f"apt could not install what the napari tests need; see its message above, then run: {command}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
