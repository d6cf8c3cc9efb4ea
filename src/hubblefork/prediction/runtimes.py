"""What computes a network: ONNX Runtime, OpenVINO or PyTorch, behind one protocol.

`train` leaves a network as ONNX beside its weights. OpenVINO computes it in bf16 where the processor has such
instructions, otherwise in single precision, and ONNX Runtime always in single precision. Each call runs on
one core; several calls at once use several cores, which is faster than one call on all (docs/log.md).
PyTorch computes on GPUs, and what has not been written as ONNX. ONNX Runtime does so too where it is asked,
or where PyTorch is not installed, with the provider of that device.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.trained import FEATURES, FRACTIONS, Trained, network_file, views_of, weights_file
from hubblefork.errors import RunError, extras
from hubblefork.io import cores, digest_of

RUNTIMES = ("onnxruntime", "openvino", "torch")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
"""What ONNX Runtime calls each kind of device."""
TOGETHER, TOGETHER_ON_GPU = 16, 512


class Network(Protocol):
    """A trained network that is ready to compute, best `together` views at once.

    `runtime` says what computes it, on what, and how precisely.
    """

    trained: Trained
    runtime: str
    together: int

    def __call__(self, stamps: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        """Return the mean over views of what stamps (galaxy, y, x, 3) get: (galaxy, answer or feature)."""
        ...

    def each(self, stamps: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        """Return what each view gets: (galaxy, view, answer or feature)."""
        ...


class _OnBatches:
    """A network of a file, computed in batches of `together` views."""

    together = TOGETHER

    def __init__(self, trained: Trained, output: str, runtime: str) -> None:
        self.trained, self.output, self.runtime = trained, output, runtime

    def __call__(self, stamps: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        return self.each(stamps, views).mean(axis=1)

    def each(self, stamps: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        images = views_of(stamps, self.trained.input_size, views, self.trained.first_angle)
        starts = range(0, len(images), self.together)
        batches = [self._values(images[start : start + self.together]) for start in starts]
        values: NDArray[np.float32] = np.concatenate(batches)
        return values.reshape(len(stamps), views, -1)

    def _values(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError


class OnnxRuntime(_OnBatches):
    """A network of an ONNX file in single precision, on a device: "cpu", "cuda", "cuda:1" or "mps".

    Raises RunError for another file, and for a device that ONNX Runtime does not compute on here.
    """

    def __init__(self, path: Path, output: str = FRACTIONS, device: str = "cpu") -> None:
        import onnxruntime

        provider, settings = _provider_of(device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=[(provider, settings)])
        except Exception as error:  # of its own family, which has no public base
            raise RunError(f"{path}: no network that ONNX Runtime can compute: {error}") from error
        if provider not in self.session.get_providers():
            raise RunError(f'ONNX Runtime has {provider} but cannot start it on "{device}": its libraries')
        trained = Trained.from_metadata(self.session.get_modelmeta().custom_metadata_map, path)
        name = device.upper() if device == "cpu" else device
        super().__init__(trained, output, f"ONNX Runtime {onnxruntime.__version__}, {name}, fp32")
        self.together = TOGETHER if device == "cpu" else TOGETHER_ON_GPU

    def _values(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.session.run([self.output], {"views": images})[0]
        return values


def _provider_of(device: str) -> tuple[str, dict[str, str]]:
    """Return ONNX Runtime's provider of a device and its settings. Raises RunError where it has none."""
    import onnxruntime

    kind, _, number = device.partition(":")
    there = [name for name, known in PROVIDERS.items() if known in onnxruntime.get_available_providers()]
    if kind not in there or (number and not number.isdecimal()):
        raise RunError(
            f'ONNX Runtime cannot compute on "{device}": here it has {", ".join(there)}; the package '
            "onnxruntime-gpu has cuda, 'hubblefork[train]' brings PyTorch, which has it too"
        )
    return PROVIDERS[kind], {"device_id": number} if number else {}


class _Request(NamedTuple):
    """One of several computations that run at once, with its memory."""

    infer: Callable[[], Any]
    images: NDArray[np.float32]
    values: NDArray[np.float32]


class OpenVino(_OnBatches):
    """The same by OpenVINO, in bf16 where the processor and the recipe have it.

    Each request has its own memory, and has computed once, before threads use it: two threads that hand over
    arrays for the first time at the same moment can wait for each other for ever (docs/log.md).
    """

    def __init__(self, path: Path, trained: Trained, output: str = FRACTIONS) -> None:
        import openvino

        core, threads, side = openvino.Core(), cores(), trained.input_size
        half = trained.precision in ("auto", "bf16") and "BF16" in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        )
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        network = core.read_model(path)
        network.reshape([TOGETHER, trained.stamps.bands, side, side])
        model, self.requests = core.compile_model(network, "CPU", settings), Queue[_Request]()
        for _ in range(threads):
            request = model.create_infer_request()
            request.infer()
            memory = request.get_input_tensor().data, request.get_tensor(output).data
            self.requests.put(_Request(request.infer, *memory))
        version = openvino.__version__.split("-")[0]
        super().__init__(trained, output, f"OpenVINO {version}, CPU, {'bf16' if half else 'fp32'}")

    def _values(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        request = self.requests.get()
        try:
            request.images[: len(images)] = images
            request.infer()
            return request.values[: len(images)].copy()
        finally:
            self.requests.put(request)


def open_network(
    place: Path, *, device: str = "", runtime: str = "", features: bool = False, few: bool = False
) -> Network:
    """Return the network of a run, a file or a packaged name, by the fastest runtime for a device.

    `device` is "cpu", "cuda", "cuda:1" or "mps", empty for the fastest that is there. With `features` the
    network gives the inputs of its last layer. For `few` galaxies the runtime is taken that starts soonest.
    Raises RunError, and ExtraMissing for a network that needs PyTorch where it is not installed.
    """
    output, device = FEATURES if features else FRACTIONS, device.lower()
    runtime = _runtime_of(runtime, device)
    if runtime == "torch":
        return _by_torch(place, device, features, "")
    opened = _opened(place, output, device or "cpu")
    if isinstance(opened, str) and runtime:
        raise RunError(f"{place}: {runtime} cannot compute it: {opened}; run `hubblefork export {place}`")
    if isinstance(opened, str):
        return _by_torch(place, device, features, opened)
    fast = not few and _is_x86() and find_spec("openvino") is not None
    if runtime == "openvino" or (not runtime and fast):
        return OpenVino(network_file(place), opened.trained, output)
    return opened


def _runtime_of(runtime: str, device: str) -> str:
    """Return the runtime that is asked for or needed for a device, empty for any. Raises RunError."""
    if runtime not in ("", *RUNTIMES):
        raise RunError(f'there is no runtime "{runtime}": choose one of {", ".join(RUNTIMES)}')
    on_cpu = device == "cpu" or (not device and (bool(runtime) or not _has_accelerator()))
    if runtime == "openvino" and not on_cpu:
        raise RunError(f'openvino computes on "cpu", not on "{device}": choose onnxruntime or torch')
    if not runtime and not on_cpu:
        runtime = "torch" if find_spec("torch") else "onnxruntime"
    if runtime == "onnxruntime":
        _provider_of(device or "cpu")
    return runtime


def why_not_onnx(place: Path) -> str:
    """Return why a network cannot be computed without PyTorch; nothing where it can. Raises RunError."""
    opened = _opened(place)
    return opened if isinstance(opened, str) else ""


def _opened(place: Path, output: str = FRACTIONS, device: str = "cpu") -> OnnxRuntime | str:
    """Return the network in the file beside some weights, or why there is none. Raises RunError."""
    path, digest = network_file(place), digest_of(weights_file(place))
    if not path.exists():
        return f"there is no {path.name} beside its weights"
    try:
        network = OnnxRuntime(path, output, device)
    except RunError as error:
        return str(error)
    return network if network.trained.digest == digest else f"{path.name} is of other weights"


def _by_torch(place: Path, device: str, features: bool, why: str) -> Network:
    with extras(f"{place}, {why}: to predict with it" if why else "this device"):
        from hubblefork.network.predictor import TorchNetwork
        from hubblefork.network.weights import load_weights

    return TorchNetwork(load_weights(place), device=device, features=features)


def _has_accelerator() -> bool:
    """Say whether PyTorch is installed and may have a GPU here; PyTorch itself takes seconds to ask."""
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return find_spec("torch") is not None and (apple or Path("/proc/driver/nvidia").exists())


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
