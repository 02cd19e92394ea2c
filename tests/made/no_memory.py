"""Errors that say that memory ran out, as the libraries below PyTorch say it, and others that look like them."""

import errno

import torch

# PyTorch before 2.8 raises a bare RuntimeError for them
ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)


class OutOfMemoryError(RuntimeError):
    """An error of that name from another library, in words that nobody knows."""


FORMS = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CUDA, later": lambda: ACCELERATOR("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "CUDA driver": lambda: RuntimeError("CUDA driver error: out of memory"),
    "CUDA runtime": lambda: RuntimeError("cudaErrorMemoryAllocation: out of device memory"),
    "cuDNN": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN 9": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "no algorithm": lambda: RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    "no engine": lambda: RuntimeError("FIND was unable to find an engine to execute this computation"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cuSOLVER": lambda: RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
    "MPS": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 8.96 GB, max allowed: 9.07 GB)."),
    "MPS, one buffer": lambda: RuntimeError("Invalid buffer size: 19.07 GiB"),
    "HIP": lambda: RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
    "HIP code": lambda: ACCELERATOR("HIP error: hipErrorOutOfMemory"),
    "MIOpen": lambda: RuntimeError("miopenStatusAllocFailed"),
    "XPU": lambda: torch.OutOfMemoryError("XPU out of memory. Tried to allocate 2.00 GiB"),
    "XPU code": lambda: RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    "CPU": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried 9"),
    "CPU, Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "C++": lambda: RuntimeError("std::bad_alloc"),
    "Python": MemoryError,
    "numpy": lambda: MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000)"),
    "Linux": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    "another library": lambda: OutOfMemoryError("no more"),
}

OTHERS = {
    "an illegal access": lambda: ACCELERATOR("CUDA error: an illegal memory access was encountered"),
    "an assertion": lambda: ACCELERATOR("CUDA error: device-side assert triggered"),
    "a launch": lambda: RuntimeError("CUDA error: too many resources requested for launch"),
    "unsupported": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    "execution": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    "a layout": lambda: RuntimeError("Unsupported memory format. Supports only ChannelsLast, Contiguous"),
    "one place": lambda: RuntimeError("some elements of the input tensor refer to a single memory location"),
    "a size": lambda: RuntimeError("The size of tensor a (4) must match the size of tensor b (5) at non-singleton dimension 3"),
    "a dtype": lambda: RuntimeError("expected scalar type Float but found BFloat16"),
    "a disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
}


def in_turn(forms):
    """Arguments of `pytest.mark.parametrize`: makers of errors, by name."""
    return {"argvalues": list(forms.values()), "ids": list(forms)}
