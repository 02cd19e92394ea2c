"""What an installed package promises: names, manifest, data files, examples that hold, the README's commands."""

import ast
import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import pytest

import napari_shiftseg

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = files("napari_shiftseg") / "napari.yaml"

PUBLIC = [
    "Lattice",
    "Model",
    "Output",
    "UNetSpec",
    "UNet",
    "plan_tiles",
    "TilePlan",
    "violations",
    "predict",
    "segment",
    "SegmentSettings",
    "discriminative_loss",
    "train",
    "TrainSettings",
    "mean_shift",
    "label_instances",
    "synthetic",
    "probe_period",
    "seam_report",
    "verify_tiling",
    "match_score",
    "load_model",
    "save_model",
    "read_image",
    "open_result",
    "decide",
    "Job",
]


def needs(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there(name):
    needs("torch", "zarr")
    value = getattr(napari_shiftseg, name)
    assert callable(value) or name == "synthetic", f"napari_shiftseg.{name} is {value!r}"


def test_no_module_hides_a_public_name():
    """Importing a module sets it in the package: `segment.py` would replace the function `segment`."""
    modules = {path.stem for path in Path(napari_shiftseg.__file__).parent.glob("*.py")}
    assert not modules & set(PUBLIC)


def test_all_names_the_public_contract():
    assert set(PUBLIC) <= set(napari_shiftseg.__all__)
    assert set(napari_shiftseg.__all__) <= set(dir(napari_shiftseg))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = napari_shiftseg.no_such_name


def test_version_is_a_string_that_starts_with_a_number():
    assert re.match(r"\d+[.+]", napari_shiftseg.__version__)


def test_the_package_carries_its_types():
    assert (files("napari_shiftseg") / "py.typed").is_file()


def test_the_bundled_model_is_in_the_package():
    weights = [entry.name for entry in (files("napari_shiftseg") / "weights").iterdir()]
    assert any(name.endswith(".safetensors") for name in weights), weights


def test_a_real_sample_image_is_in_the_package():
    samples = [entry.name for entry in (files("napari_shiftseg") / "samples").iterdir()]
    assert any(name.endswith((".png", ".tif", ".tiff")) for name in samples), samples


def test_installing_registers_the_plugin_and_the_command():
    try:
        distribution = metadata.distribution("napari-shiftseg")
    except metadata.PackageNotFoundError:
        pytest.skip("used from a source tree, not installed")
    found = {(entry.group, entry.name, entry.value) for entry in distribution.entry_points}
    assert ("napari.manifest", "napari-shiftseg", "napari_shiftseg:napari.yaml") in found
    assert ("console_scripts", "shiftseg", "napari_shiftseg.__main__:main") in found


def test_napari_accepts_the_manifest():
    needs("npe2")
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(str(MANIFEST))
    assert manifest.name == "napari-shiftseg"
    assert manifest.contributions.widgets, "the manifest offers no widget"


def test_every_python_name_of_the_manifest_can_be_imported():
    needs("npe2", "napari", "qtpy")
    from npe2 import PluginManifest

    PluginManifest.from_file(str(MANIFEST)).validate_imports()


# ---- documents -----------------------------------------------------------------------------------------------------


def importable_modules() -> list[str]:
    """Every module but the plugin's, whose examples need a viewer."""
    package = Path(napari_shiftseg.__file__).parent
    paths = [path.relative_to(package).with_suffix("") for path in sorted(package.rglob("*.py"))]
    names = [".".join(("napari_shiftseg", *path.parts)) for path in paths if path.parts[0] != "plugin"]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


@pytest.mark.parametrize("name", importable_modules())
def test_examples_in_docstrings_hold(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if str(missing.name).startswith("napari_shiftseg"):
            raise
        pytest.skip(f"{missing.name} is not installed")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} fail; see the output"


def last_command(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip().splitlines()[-1]


@pytest.mark.skipif(not (ROOT / ".ci" / "run").is_file(), reason="not in a checkout")
def test_continuous_integration_runs_the_command_of_the_readme():
    assert last_command(ROOT / ".ci" / "run") in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_installation_page_names_the_debian_packages_that_the_tests_install():
    listing = (ROOT / "tests" / "debian_libraries.py").read_text(encoding="utf-8")
    packages = re.findall(r'^    "([a-z0-9.-]+)": "', listing, flags=re.MULTILINE)
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert packages and not [package for package in packages if package not in page]


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_large_pages_are_asked_for_unless_the_user_has_decided(before, after):
    """PyTorch reads the variable at its first allocation."""
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    if before is not None:
        environment["THP_MEM_ALLOC_ENABLE"] = before
    code = "import napari_shiftseg, os; print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == after


def test_all_of_the_public_contract_has_an_example():
    named = [getattr(module, name) for module in (napari_shiftseg, napari_shiftseg.synthetic) for name in module.__all__]
    contract = [getattr(napari_shiftseg, name) for name in PUBLIC if name != "synthetic"]
    bare = {one.__name__ for one in (*named, *contract) if inspect.isfunction(one) or one in contract
            if ">>>" not in (inspect.getdoc(one) or "")}  # fmt: skip
    assert bare == set()


# Names of the public contract, which are called as they are written there; what dask calls, Qt, or a stand-in of a test.
BY_PLACE = {
    "decide", "plan_tiles", "predict", "save_labels_tiff", "seam_report", "segment", "segment_steps", "train",
    "finish_blocks", "layer_tuples", "_on_end", "_on_moved", "_one_pass", "_peak", "__init__",
}  # fmt: skip


def test_beyond_three_parameters_are_named():
    found = set()
    for path in (ROOT / "src" / "napari_shiftseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name not in ("__exit__", *BY_PLACE):
                places = [each.arg for each in (*node.args.posonlyargs, *node.args.args) if each.arg not in ("self", "cls")]
                found |= {f"{path.name}: {node.name}"} if len(places) > 3 else set()
    assert found == set()
