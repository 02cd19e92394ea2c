"""What PyTorch may do with float32 while this package computes: settings of the whole process, put back afterwards.

A user, or another plugin of the same napari, may have told PyTorch to round products to fewer bits, with either of its two
sets of settings. Results here do not depend on that, nor on where it makes tensors and whether it keeps gradients.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Condition, get_ident
from typing import Any

import torch

from napari_shiftseg.errors import SettingsError

# From 2.9 on PyTorch has a precision for each backend and kind of operation; "none" leaves it to that of all kinds, and this
# to that of all backends. Before, and beside them, there are `allow_tf32` and `set_float32_matmul_precision`.
_PER_OPERATION = hasattr(torch._C, "_get_fp32_precision_getter")
_PRODUCTS = (("cuda", "matmul"), ("mkldnn", "matmul"))
_CUDNN, _ALL_OF_CUDA = (("cuda", "conv"), ("cuda", "rnn")), ("cuda", "all")
_AUTOCAST = ("cpu", "cuda", "mps")

Setting = tuple[str, str]
Restore = Callable[[], None]


# Whether PyTorch has worked with several threads here, and whether that was in a process of which this one was forked.
_threads = {"worked": False, "left behind": False}


def threads_work() -> None:
    """Note that PyTorch works with its threads now, which a process that is forked from this one does not have.

    SettingsError in such a process: PyTorch would wait for them without end.
    """
    several = torch.get_num_threads() > 1
    if several and _threads["left behind"]:
        raise SettingsError(
            f"this process was forked from one in which PyTorch had worked with {torch.get_num_threads()} threads, for which "
            'it would wait without end; start it with multiprocessing.get_context("spawn").'
        )
    _threads["worked"] |= several


def _forked() -> None:
    _threads["left behind"] = _threads["worked"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products of float32 in float32, whatever the process was told; SettingsError as of `threads_work`."""
    threads_work()
    with _products.held(), _as_in_a_new_thread():
        yield


@contextmanager
def exact_convolutions(deterministic: bool = False, *, tf32: bool = False, tuned: bool = False) -> Iterator[None]:
    """Convolutions and products of float32 in float32, unless TF32 was asked for: its ten bits would break tile-exactness.

    The settings belong to the process. Threads that ask for the same hold them together; one that asks for something else waits
    until they are free. So this goes around one pass or step, and never around a `yield` of a generator of events.
    SettingsError if a network asks for other settings inside its own pass.

    Parameters
    ----------
    deterministic : bool
        Only algorithms of cuDNN that give equal bits in each run.
    tf32 : bool
        Convolutions on NVIDIA GPUs multiply with ten bits of mantissa.
    tuned : bool
        cuDNN tries its algorithms first.
    """
    with _convolutions.held(deterministic, tf32, tuned), exact_products():
        yield


class _Shared:
    """Settings that threads hold together while they want the same, and in turn where they do not.

    `change`: makes them as wanted, and gives what puts them back.
    """

    def __init__(self, change: Callable[..., Restore]) -> None:
        self._change = change
        self._free = Condition()
        self._waiting: deque[object] = deque()  # the longest first, so that nobody waits for ever
        self._holders: Counter[int] = Counter()
        self._wanted: Hashable = None

    @contextmanager
    def held(self, *wanted: bool) -> Iterator[None]:
        """Hold the settings as wanted."""
        self._take(wanted)
        try:
            yield
        finally:
            with self._free:
                self._holders -= Counter([get_ident()])
                if not self._holders:
                    self._restore()
                self._free.notify_all()

    def _take(self, wanted: tuple[bool, ...]) -> None:
        me, place = get_ident(), object()
        with self._free:
            if me in self._holders and wanted != self._wanted:
                raise SettingsError("a network ran another one with other settings inside its own pass; run them one by one.")
            if me not in self._holders:
                self._waiting.append(place)
                try:
                    self._free.wait_for(lambda: self._waiting[0] is place and (not self._holders or wanted == self._wanted))
                finally:
                    self._waiting.remove(place)
                    self._free.notify_all()
            if not self._holders:
                self._restore, self._wanted = self._change(*wanted), wanted
            self._holders[me] += 1


def _change_products() -> Restore:
    own = _set_own(dict.fromkeys(_PRODUCTS, "ieee"))
    before = torch.get_float32_matmul_precision()  # where the newer settings are "ieee", this one can be read
    torch.set_float32_matmul_precision("highest")

    def restore() -> None:
        torch.set_float32_matmul_precision(before)
        own()

    return restore


def _change_convolutions(deterministic: bool, tf32: bool, tuned: bool) -> Restore:
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    wanted: list[tuple[Any, str, bool]] = [
        (cudnn, "enabled", True),
        (cudnn, "benchmark", tuned),
        (cudnn, "deterministic", deterministic),
        (mkldnn, "enabled", True),
        (mkldnn, "deterministic", False),
    ]
    wanted = [switch for switch in wanted if hasattr(switch[0], switch[1])]  # oneDNN's are of later versions
    before = [(backend, name, getattr(backend, name)) for backend, name, _ in wanted]
    for backend, name, value in wanted:
        setattr(backend, name, value)
    restores = [_change_cudnn(tf32), _set_own({("mkldnn", "conv"): "ieee"})]

    def restore() -> None:
        for call in restores:
            call()
        for backend, name, value in before:
            setattr(backend, name, value)

    return restore


def _change_cudnn(tf32: bool) -> Restore:
    """TF32 in cuDNN, in both sets of settings where they agree, so that a network inside may read either.

    As long as nobody set them, the precisions of cuDNN have a default that is no value and that follows what is set above
    them. So where something is set above, it is changed there, and of themselves only what differs all the same.
    """
    cudnn, precision = torch.backends.cudnn, "tf32" if tf32 else "ieee"
    shown = {setting: _get(setting) for setting in _CUDNN} if _PER_OPERATION else {}
    allowed = _cudnn_allows_tf32()
    if allowed is not None and (not _PER_OPERATION or _get(_ALL_OF_CUDA) == "none"):
        cudnn.allow_tf32 = tf32
        for setting in shown:
            _set(setting, precision)

        def restore() -> None:
            cudnn.allow_tf32 = bool(allowed)
            for setting, value in shown.items():
                _set(setting, value)

        return restore
    above = _set_own({_ALL_OF_CUDA: precision})
    own = [(setting, value) for setting, value in shown.items() if _get(setting) != precision]
    for setting, _ in own:
        _set(setting, precision)

    def restore_newer() -> None:
        for setting, value in own:
            _set(setting, value)
        above()

    return restore_newer


def _cudnn_allows_tf32() -> bool | None:
    """The older setting; None where the newer ones contradict it, so that PyTorch does not tell it."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def _set_own(wanted: dict[Setting, str]) -> Restore:
    """Set precisions; what is given puts them back, also those that were left to what is above them."""
    own = [(setting, _own(setting)) for setting in wanted] if _PER_OPERATION else []
    for setting, _ in own:
        _set(setting, wanted[setting])

    def restore() -> None:
        for setting, value in own:
            _set(setting, value)

    return restore


def _own(setting: Setting) -> str:
    """What a setting itself says, "none" for nothing; PyTorch only tells what it comes to with those above it."""
    backend, operation = setting
    shown = _get(setting)
    if shown == "none" or backend == "generic":
        return shown
    above = (backend, "all") if operation != "all" else ("generic", "all")
    before, other = _own(above), "tf32" if shown == "ieee" else "ieee"
    _set(above, other)
    follows = _get(setting) == other
    _set(above, before)
    return "none" if follows else shown


def _get(setting: Setting) -> str:
    return str(torch._C._get_fp32_precision_getter(*setting))


def _set(setting: Setting, precision: str) -> None:
    torch._C._set_fp32_precision_setter(*setting, precision)


@contextmanager
def learning() -> Iterator[None]:
    """Tensors keep gradients, and are made in the processor's memory unless said otherwise, whatever the thread was told."""
    with torch.inference_mode(False), torch.enable_grad(), _as_in_a_new_thread():
        yield


@contextmanager
def _as_in_a_new_thread() -> Generator[None]:
    """Autocast of this thread off, its default device the processor: a network has the format and place that it was given."""
    with ExitStack() as stack:
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":  # the context itself makes each call slower
            stack.enter_context(torch.device("cpu"))
        yield


_products, _convolutions = _Shared(_change_products), _Shared(_change_convolutions)
