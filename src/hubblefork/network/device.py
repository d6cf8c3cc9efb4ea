"""Where a network runs: the device, the precision it gains from, the memory it keeps."""

from __future__ import annotations

import copy
import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubblefork.errors import RecipeError, RunError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4

KINDS = ("cuda", "mps", "cpu")
"""The kinds of devices, the fastest first."""


def device_of(name: str = "") -> torch.device:
    """Return the device of a name: "cpu", "cuda", "cuda:1", "mps"; the fastest one for an empty name.

    Raises RunError for one that this computer or this PyTorch does not have.
    """
    there = [kind for kind in KINDS if _count(kind)]
    try:
        device = torch.device(name.lower() or there[0])
    except RuntimeError:
        device = torch.device("meta")
    if (device.index or 0) >= _count(device.type):
        raise RunError(
            f'there is no device "{name}" here: this computer and its PyTorch have {", ".join(there)}; '
            "without --device the fastest is taken"
        )
    return torch.device("cpu") if device.type == "cpu" else device


def _count(kind: str) -> int:
    """Return how many devices of a kind there are."""
    if kind == "cpu":
        return 1
    module: Any = getattr(torch, kind, None)
    return module.device_count() if hasattr(module, "device_count") and module.is_available() else 0


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given: it works on while the host goes on."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@dataclass(frozen=True)
class Hardware:
    """Where a training runs, which the recipe does not decide.

    `device`: "cpu", "cuda", "cuda:1" or "mps"; empty chooses. `devices` on each of `nodes` share every batch,
    started by torchrun or SLURM (or, on one node, by Lightning); on a CPU they are processes. `memory`: how
    many bytes of stamps may lie in it. Raises RunError for devices that are not there, and for fewer than one
    device or node.
    """

    device: str = ""
    devices: int = 1
    nodes: int = 1
    memory: int | None = None

    def __post_init__(self) -> None:
        where = self.where
        if self.devices < 1 or self.nodes < 1:
            raise RunError(f"{self.devices} devices on {self.nodes} nodes: at least 1 of each")
        there = 1 if where.index is not None else _count(where.type)
        if where.type != "cpu" and self.devices > there:
            raise RunError(f'{self.devices} devices "{where}" on each node, but there are {there}')

    @property
    def where(self) -> torch.device:
        """The device, chosen if it was not given."""
        return device_of(self.device)

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


def compiled(network: nn.Module, input_size: int, device: torch.device, bands: int = 3) -> str:
    """Compile a network in place with torch.compile; return what has to be said: nothing, or why it is not.

    A copy is tried first, forwards and backwards, so that whatever PyTorch's compiler lacks on a machine
    shows before training begins and the network is left as it was.
    """
    trial = copy.deepcopy(network).to(device)
    try:
        with torch.random.fork_rng(enabled=True):
            trial.compile()
            trial(torch.rand(2, bands, input_size, input_size, device=device)).sum().backward()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        return f"compile: not compiled, {type(error).__name__}: {reason[:200]}"
    network.compile()
    return ""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision by Lightning's name."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "32-true")


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn a lack of memory, of the computer or the device, into a RecipeError that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacks = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not lacks:
            raise
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"not enough memory ({reason}): lower batch_size, width or hidden_units") from error


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
