"""Where a network runs: the device, the precision it gains from, the memory it keeps."""

from __future__ import annotations

import ctypes
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def best_device() -> torch.device:
    """Return the CUDA device if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_precision(device: torch.device) -> str:
    """Return Lightning's name of the precision that is fastest there: "bf16-mixed" or "32-true".

    bf16 on CUDA devices that have it and on CPUs with bf16 instructions (AVX512-BF16, AMX);
    emulated bf16 is slower than single precision.
    """
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"
    return "32-true"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision named as by `best_precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next batch rather than hand it back page by page.

    Each training step on a CPU allocates and frees the same large tensors; returned pages are
    zeroed anew by the kernel every time. Returns whether the C library took the request
    (glibc does; others have no such setting and nothing changes).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
