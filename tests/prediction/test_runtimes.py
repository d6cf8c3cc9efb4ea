"""Each runtime gives PyTorch's fractions; predicting and classifying never load PyTorch."""

import io
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from hubblefork.data.trained import EMBEDDED, Trained, network_file
from hubblefork.errors import RunError
from hubblefork.images.decoder import StampSpec, stamp
from hubblefork.network.export import write_network
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.weights import load_weights
from hubblefork.prediction import runtimes
from hubblefork.prediction.runtimes import OnnxRuntime, OpenVino, open_network, why_not_onnx

BF16_RMS = 5e-3
"""bf16 has 8 bits: single fractions move by some hundredths, the RMSE on labelled galaxies by 0.0001."""


def stamps_like_galaxies(galaxies, spec):
    y, x = np.mgrid[: spec.size, : spec.size] - spec.size / 2
    rng = np.random.default_rng(3)
    made = []
    for _ in range(galaxies):
        flat, turn = rng.uniform(0.3, 1), rng.uniform(0, np.pi)
        a, b = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        light = 200 * np.exp(-np.hypot(a, b / flat) / rng.uniform(8, 20))
        made.append(np.stack([light, 0.8 * light, 0.6 * light], axis=2) + rng.uniform(0, 12, (*y.shape, 3)))
    return np.clip(made, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def exact():
    """The embedded network in single precision by PyTorch."""
    network = TorchNetwork(load_weights(EMBEDDED), device="cpu")
    network.precision = "32-true"
    return network


@pytest.mark.parametrize("views", [1, 4])
def test_the_embedded_network_is_the_same_by_onnx_runtime(exact, views):
    ours = OnnxRuntime(network_file(EMBEDDED))
    assert ours.trained == exact.trained and "ONNX Runtime" in ours.runtime
    stamps = stamps_like_galaxies(20, exact.trained.stamps)
    assert np.abs(ours(stamps, views) - exact(stamps, views)).max() < 1e-4


def test_the_embedded_network_is_the_same_by_openvino(exact):
    pytest.importorskip("openvino")
    ours = OpenVino(network_file(EMBEDDED), exact.trained)
    stamps = stamps_like_galaxies(20, exact.trained.stamps)
    difference = ours(stamps, 1) - exact(stamps, 1)
    limit = BF16_RMS if "bf16" in ours.runtime else 1e-4
    assert np.sqrt(np.mean(difference**2)) < limit


def test_openvinos_first_call_is_over_before_threads_begin(exact):
    """First calls in two threads at once waited for each other in three of 18 processes."""
    pytest.importorskip("openvino")
    ready = OpenVino(network_file(EMBEDDED), exact.trained).requests
    assert all(ready.get().infer.__self__.latency > 0 for _ in range(ready.qsize()))


def test_real_galaxies_have_the_same_fractions(exact, kaggle):
    with zipfile.ZipFile(kaggle / "images_test_rev1.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:40]
        stamps = np.stack([stamp(archive.read(name), exact.trained.stamps) for name in names])
    assert np.abs(OnnxRuntime(network_file(EMBEDDED))(stamps, 1) - exact(stamps, 1)).max() < 1e-4


def test_a_run_has_features_and_fractions_by_every_runtime(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    assert why_not_onnx(run) == "there is no weights.onnx beside its weights"
    with pytest.raises(RunError, match="onnxruntime cannot compute it: there is no weights"):
        open_network(run, runtime="onnxruntime")
    write_network(run)
    assert not why_not_onnx(run)
    stamps = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    for features in (False, True):
        torch = open_network(run, device="cpu", runtime="torch", features=features)
        torch.precision = "32-true"
        network = open_network(run, device="cpu", features=features, few=True)
        assert isinstance(network, OnnxRuntime)
        np.testing.assert_allclose(network(stamps, 2), torch(stamps, 2), atol=1e-4, rtol=1e-4)


def test_a_file_of_other_weights_is_not_taken(trained, untrained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.copy(untrained / "weights.safetensors", run)
    write_network(run)
    shutil.copy(trained / "weights.safetensors", run)
    assert why_not_onnx(run) == "weights.onnx is of other weights"
    assert isinstance(open_network(run, device="cpu"), TorchNetwork)


def test_a_damaged_file_is_not_taken(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "weights.onnx").write_bytes(b"no network")
    assert "no network that ONNX Runtime can compute" in why_not_onnx(run)
    with pytest.raises(RunError, match="does not say which stamps"):
        Trained.from_metadata({}, run / "weights.onnx")
    with pytest.raises(RunError, match='no runtime "abacus"'):
        open_network(run, runtime="abacus")


@pytest.mark.parametrize(
    ("runtime", "device", "reason"),
    [
        ("onnxruntime", "mps", 'ONNX Runtime cannot compute on "mps": here it has cpu'),
        ("onnxruntime", "cuda:x", 'cannot compute on "cuda:x"'),
        ("openvino", "cuda", 'openvino computes on "cpu", not on "cuda"'),
    ],
)
def test_a_device_that_a_runtime_has_not_is_refused(runtime, device, reason):
    with pytest.raises(RunError, match=reason):
        open_network(EMBEDDED, runtime=runtime, device=device)


@pytest.fixture
def onnx_runtime_with_cuda(monkeypatch):
    """ONNX Runtime as its build for CUDA presents itself, computing on the CPU; what was asked of it."""
    asked, session = [], onnxruntime.InferenceSession

    def opened(path, options, providers):
        asked.extend(providers)
        made = session(path, options, providers=["CPUExecutionProvider"])
        started = [name for name, settings in providers if settings.get("device_id") != "7"]
        made.get_providers = lambda: [*started, "CPUExecutionProvider"]
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    return asked


def test_onnx_runtime_computes_on_the_device_that_is_asked_for(onnx_runtime_with_cuda):
    network = open_network(EMBEDDED, runtime="onnxruntime", device="CUDA:1")
    assert onnx_runtime_with_cuda == [("CUDAExecutionProvider", {"device_id": "1"})]
    assert ", cuda:1, fp32" in network.runtime and network.together == 512
    stamps = stamps_like_galaxies(3, network.trained.stamps)
    assert np.array_equal(network(stamps, 1), open_network(EMBEDDED, device="cpu", few=True)(stamps, 1))
    with pytest.raises(RunError, match='cannot start it on "cuda:7"'):
        open_network(EMBEDDED, runtime="onnxruntime", device="cuda:7")


def test_a_gpu_without_pytorch_is_used_by_onnx_runtime(onnx_runtime_with_cuda, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    assert "ONNX Runtime" in open_network(EMBEDDED, device="cuda").runtime
    assert onnx_runtime_with_cuda == [("CUDAExecutionProvider", {})]


WITHOUT = """
import socket
import sys
from importlib.machinery import PathFinder

class Fewer(PathFinder):
    @classmethod
    def find_spec(cls, name, *places):
        absent = name.partition(".")[0] in ("torch", "lightning", "timm", "galsim", "openvino")
        return None if absent else PathFinder.find_spec(name, *places)

def refuse(self, address):
    raise SystemExit(f"a connection to {address}")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
sys.meta_path = [Fewer if finder is PathFinder else finder for finder in sys.meta_path]
from hubblefork.cli import main
sys.argv[1:] = COMMAND
main()
"""


def test_predicting_classifying_and_counting_need_no_pytorch_and_no_network(tmp_path):
    spec = StampSpec(424, 424)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for number, pixels in enumerate(stamps_like_galaxies(3, spec)):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG")
            archive.writestr(f"{number}.jpg", file.getvalue())
    (tmp_path / "one.jpg").write_bytes(file.getvalue())
    for command, expected in (
        (["classify", str(tmp_path / "one.jpg")], "Is the galaxy simply smooth"),
        (
            ["predict", "fork", str(tmp_path / "images.zip"), "--out", str(tmp_path / "c.parquet")],
            "3 galaxies",
        ),
        (["mergers", str(tmp_path / "c.parquet")], "merger"),
        (["info"], "ONNX Runtime"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT.replace("COMMAND", str(command))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and expected in done.stdout, (command, done.stdout, done.stderr)
