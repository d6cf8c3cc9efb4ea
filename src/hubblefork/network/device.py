"""Where a network runs: the device, the precision it gains from, the memory it keeps."""

from __future__ import annotations

import copy
import ctypes
import platform
from dataclasses import dataclass

import torch
from torch import nn

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def best_device() -> torch.device:
    """Return the CUDA device if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given: it works on while the host goes on."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@dataclass(frozen=True)
class Hardware:
    """Where a training runs, which the recipe does not decide.

    `device`: "cpu", "cuda" or "mps"; empty chooses. `devices` on each of `nodes` share every batch, started
    by torchrun or SLURM (or, on one node, by Lightning). `memory`: how many bytes of stamps may lie in it.
    """

    device: str = ""
    devices: int = 1
    nodes: int = 1
    memory: int | None = None

    @property
    def where(self) -> torch.device:
        """The device, chosen if it was not given."""
        return torch.device(self.device) if self.device else best_device()

    @property
    def processes(self) -> int:
        """How many processes share a batch."""
        return self.devices * self.nodes


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


@dataclass(frozen=True)
class Precision:
    """A precision by Lightning's name, and what has to be said: nothing, or why it is another one."""

    name: str
    remark: str = ""


def precision_of(asked: str, device: torch.device) -> Precision:
    """Return the precision for what a recipe asks ("auto", "32", "bf16" or "fp16") on a device.

    Where the device would only emulate it, single precision is taken, and the remark says so: a lower
    precision is asked for to be faster.
    """
    if asked == "auto":
        return Precision(best_precision(device))
    if asked == "32":
        return Precision("32-true")
    able = device.type != "cpu" if asked == "fp16" else best_precision(device) == "bf16-mixed"
    if able:
        return Precision({"fp16": "16-mixed", "bf16": "bf16-mixed"}[asked])
    return Precision(
        "32-true", f"precision: 32 instead of {asked}, which this {device.type} device only emulates"
    )


def compiled(network: nn.Module, input_size: int, device: torch.device) -> str:
    """Compile a network in place with torch.compile; return what has to be said: nothing, or why it is not.

    A copy is tried first, forwards and backwards, so that whatever PyTorch's compiler lacks on a machine
    shows before training begins and the network is left as it was.
    """
    trial = copy.deepcopy(network).to(device)
    try:
        with torch.random.fork_rng(enabled=True):
            trial.compile()
            trial(torch.rand(2, 3, input_size, input_size, device=device)).sum().backward()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        return f"compile: not compiled, {type(error).__name__}: {reason[:200]}"
    network.compile()
    return ""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision by Lightning's name."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "32-true")


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
