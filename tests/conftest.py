"""Fixtures that every room's tests share, and `--require-cuda`."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real microscopy images beside the repository; a test that needs it is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not here ({folder} is absent)")
    return folder


@pytest.fixture(autouse=True)
def no_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests find the same on every machine: the number format that is chosen by itself is float32."""
    try:
        device = import_module("napari_shiftseg.network.device")
    except (ImportError, AttributeError):  # a stand-in for PyTorch, or none
        return
    said = (False, "the processor has no matrix units for bfloat16")
    monkeypatch.setattr(device, "matrix_units", lambda device: said)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`tox -e cuda` is no test of a GPU where there is none."""
    text = "fail where PyTorch sees no CUDA device, where a test that needs one is skipped, and where none ran"
    parser.addoption("--require-cuda", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Without a device nothing is begun."""
    if config.getoption("--require-cuda"):
        import torch

        if not torch.cuda.is_available():
            raise pytest.UsageError(f"--require-cuda was given, and PyTorch {torch.__version__} sees no CUDA device.")
        config.pluginmanager.register(_RequireCuda(), "require-cuda")


class _RequireCuda:
    """Counts the tests that ran on a GPU, and lets none be skipped."""

    def __init__(self) -> None:
        self.ran = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if item.get_closest_marker("cuda") is not None:
            if report.skipped:
                report.outcome, report.longrepr = "failed", f"skipped, although a CUDA device is required: {report.longrepr}"
            self.ran += report.when == "call" and report.passed
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not self.ran:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{self.ran} tests ran on a CUDA device; --require-cuda wants at least one.")
