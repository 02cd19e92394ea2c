"""The rooms of the package keep to what they may import at run time (docs/architecture.md)."""

import ast
import builtins
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_shiftseg"
MODULES = sorted(PACKAGE.rglob("*.py"))

INTEGERS = frozenset({"arguments", "errors", "events", "files", "machine", "signals", "geometry"})
COMPUTE = frozenset({"network", "instances", "analysis"})
LIBRARY = INTEGERS | {"views", "synthetic"} | COMPUTE | {"io"}
VERBS = frozenset({"segmentation", "evaluation", "colours", "picture", "paper", "cli"})
NOTHING: frozenset[str] = frozenset()

# room -> the rooms that it may import
NEIGHBOURS = {
    "__init__": NOTHING,
    "__main__": frozenset({"cli", "signals"}),
    **dict.fromkeys(INTEGERS, INTEGERS),
    "views": INTEGERS,
    "synthetic": INTEGERS | {"views"},
    **dict.fromkeys(COMPUTE, INTEGERS | {"views", "synthetic"} | COMPUTE),
    "io": LIBRARY,
    **dict.fromkeys(VERBS, LIBRARY | VERBS),
    "plugin": LIBRARY | VERBS,
}
# room -> the only third-party packages that it may import; a room that is not named may import any but those of NEVER
ARRAYS = frozenset({"numpy", "scipy", "skimage"})
ONLY = {
    **dict.fromkeys(INTEGERS | {"__init__"}, NOTHING),
    "views": frozenset({"numpy"}),
    "synthetic": ARRAYS,
    **dict.fromkeys(COMPUTE, ARRAYS | {"torch"}),
}
GUI = frozenset({"napari", "qtpy", "superqt", "magicgui", "vispy", "app_model", "PyQt5", "PyQt6", "PySide2", "PySide6"})
# what a room may import inside a function, where it is installed
OPTIONAL = {"machine": frozenset({"psutil"})}
NEVER = {**dict.fromkeys(VERBS | {"io"}, GUI), "plugin": NOTHING}


@dataclass(frozen=True, kw_only=True)
class Import:
    where: str
    line: int
    name: str  # dotted and absolute: "torch.nn", "napari_shiftseg.geometry"
    lazy: bool  # inside a function

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def room(self) -> str | None:
        """Room of an import from this package, `"__init__"` for the package itself."""
        parts = self.name.split(".")
        if parts[0] != "napari_shiftseg":
            return None
        return parts[1] if len(parts) > 1 else "__init__"

    def __str__(self) -> str:
        return f"{self.where}:{self.line} imports {self.name}"


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def absolute_names(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """Dotted names that the statement imports; names taken from this package's root are spelled out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = node.module or ""
    if node.level:
        folder = ("napari_shiftseg", *path.relative_to(PACKAGE).parent.parts)
        module = ".".join((*folder[: len(folder) - node.level + 1], *filter(None, [node.module])))
    if module == "napari_shiftseg":
        return ["napari_shiftseg" if alias.name == "__version__" else f"{module}.{alias.name}" for alias in node.names]
    return [module]


def run_time_imports(path: Path, node: ast.AST | None = None, lazy: bool = False) -> Iterator[Import]:
    node = ast.parse(path.read_text(encoding="utf-8")) if node is None else node
    where = str(path.relative_to(PACKAGE))
    for child in node.orelse if is_for_type_checkers(node) else ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in absolute_names(child, path):
                yield Import(where=where, line=child.lineno, name=name, lazy=lazy)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from run_time_imports(path, child, lazy or is_function)


def every_import(*rooms: str) -> list[tuple[str, Import]]:
    return [(room_of(p), found) for p in MODULES if not rooms or room_of(p) in rooms for found in run_time_imports(p)]


def listed(findings: list[object]) -> str:
    return "\n".join(str(finding) for finding in findings)


def test_every_module_belongs_to_a_room():
    unknown = [path.relative_to(PACKAGE) for path in MODULES if room_of(path) not in NEIGHBOURS]
    assert not unknown, f"give these modules a room, here and in docs/architecture.md:\n{listed(unknown)}"


@pytest.mark.parametrize("room", sorted(NEIGHBOURS))
def test_a_room_imports_only_the_rooms_below_it(room):
    allowed = NEIGHBOURS[room] | {room, "__init__"}
    wrong = [found for _, found in every_import(room) if found.room is not None and found.room not in allowed]
    if room == "cli":  # `shiftseg demo` opens the plugin in napari
        wrong = [found for found in wrong if not (found.lazy and found.room == "plugin")]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize("room", sorted(NEIGHBOURS))
def test_a_room_imports_only_its_third_party_packages(room):
    foreign = [found for _, found in every_import(room) if found.room is None]
    foreign = [found for found in foreign if found.top not in sys.stdlib_module_names]
    if room in ONLY:
        optional = OPTIONAL.get(room, NOTHING)
        wrong = [found for found in foreign if found.top not in ONLY[room] and not (found.lazy and found.top in optional)]
    else:
        wrong = [found for found in foreign if found.top in NEVER[room]]
    if room == "cli":  # `shiftseg demo` opens napari where there is a display
        wrong = [found for found in wrong if not found.lazy]
    assert not wrong, listed(wrong)


def declared_modules(*extras: str) -> set[str]:
    """Import names of the dependencies in pyproject.toml, lower case."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
    names = [re.split(r"[^\w-]", requirement)[0].lower().replace("-", "_") for requirement in requirements]
    return {"skimage" if name == "scikit_image" else name for name in names}


def test_whatever_is_imported_is_declared_as_a_dependency():
    library = (
        sys.stdlib_module_names
        | declared_modules("distributed", "bioimageio", "export", "track")
        | {"napari_shiftseg", "distributed"}
    )
    with_napari = library | declared_modules("napari") | {"napari_builtins"}  # which comes with napari
    undeclared = [
        found
        for room, found in every_import()
        if found.top.lower() not in (with_napari if room in {"plugin", "cli"} else library)
    ]
    assert not undeclared, f"add these to pyproject.toml:\n{listed(undeclared)}"


def test_dask_is_imported_only_in_the_function_that_needs_it():
    eager = [found for _, found in every_import() if found.top in {"dask", "distributed"} and not found.lazy]
    assert not eager, listed(eager)


def test_no_two_rooms_import_each_other():
    edges = {(room, found.room) for room, found in every_import() if found.room not in {None, room, "__init__"}}
    if two_way := sorted({tuple(sorted(edge)) for edge in edges if edge[::-1] in edges}):
        pytest.fail(f"rooms that import each other: {two_way}")


LAZY = {
    "napari_shiftseg": {"torch", "napari", "zarr", "numpy"},
    "napari_shiftseg.errors": {"torch", "numpy"},
    "napari_shiftseg.events": {"torch", "numpy"},
    "napari_shiftseg.geometry": {"torch", "numpy"},
    "napari_shiftseg.synthetic": {"torch", "napari", "zarr"},
    "napari_shiftseg.cli": {"torch", "napari", "zarr", "dask"},
}


@pytest.mark.parametrize("module", LAZY)
def test_importing_stays_light(module):
    code = f"import sys, {module}; print(*sorted({LAZY[module]!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), f"{done.stdout}{done.stderr}"


def test_no_error_of_ours_is_a_runtime_error():
    """A generator worker of napari swallows a RuntimeError: no signal, and the Run button stays grey."""
    kinds = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
    swallowed = {name for name, kind in kinds.items() if issubclass(kind, RuntimeError)}
    swallowed |= {"torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError"}
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} class {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and swallowed & {ast.unparse(base) for base in node.bases}
    ]
    assert not wrong, listed(wrong)


def test_only_the_command_line_prints():
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        if room_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert not wrong, listed(wrong)


def test_no_module_is_a_drawer_for_everything():
    drawers = [path for path in MODULES if path.stem in {"utils", "util", "helpers", "misc", "common"}]
    assert not drawers, listed(drawers)
