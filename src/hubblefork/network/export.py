"""A trained network as an ONNX file: for our own prediction from views, or for other programs from cutouts.

    session = onnxruntime.InferenceSession("fork.onnx")
    (fractions,) = session.run(None, {"cutouts": cutouts})     # uint8 (galaxy, side, side, 3)

The metadata of a file for other programs name the answers in their order, the tree, the recipe and the
weights' SHA-256. Its cutouts are resampled as by `images.decoder.resample`, from full scale; ours are decoded
at half scale where that is enough, which moves a fraction a little (the tour says by how much).
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hubblefork import __version__
from hubblefork.data.trained import FEATURES, FRACTIONS, network_file
from hubblefork.errors import RunError, StampError, extras
from hubblefork.images.decoder import taps
from hubblefork.images.field import Field, crop_of
from hubblefork.images.members import ImageFault
from hubblefork.io import replacing
from hubblefork.network.augment import still_views
from hubblefork.network.recipe import recipe_text
from hubblefork.network.weights import Weights, load_weights
from hubblefork.tables.catalogue import concentrations

TOLERANCE = 1e-4
CHECKED = (1, 3, 5)
LARGE = 4096


class CutoutsToFractions(nn.Module):
    """Maps cutouts, uint8 (galaxy, side, side, 3), to joint fractions (galaxy, answer)."""

    filters: Tensor

    def __init__(self, weights: Weights, side: int, field: Field | None = None) -> None:
        super().__init__()
        recipe = weights.recipe
        try:
            crop = crop_of(side, side, recipe.stamps, field)
        except ImageFault as fault:
            raise StampError(f"cutouts of {side} pixels: {fault}") from fault
        axis = taps(side, crop, recipe.stamp_size, 1)
        dense = np.zeros((recipe.stamp_size, side), np.float32)
        dense[:, axis.window] = axis.weights.toarray()
        self.register_buffer("filters", torch.from_numpy(dense))
        self.bands, self.input_size, self.augmentation = recipe.bands, recipe.input_size, recipe.augmentation
        self.network = weights.network

    def forward(self, cutouts: Tensor) -> Tensor:
        """Return the joint fractions of cutouts."""
        rows = torch.einsum("sy,gyxb->gsxb", self.filters, cutouts.float())
        stamps = torch.einsum("tx,gsxb->gstb", self.filters, rows)
        stamps = (stamps + 0.5).floor().clamp(0, 255)
        if self.bands == 1:
            stamps = (stamps.mean(dim=3, keepdim=True) + 0.5).floor()
        return self.network(still_views(stamps, self.input_size, self.augmentation))


class ViewsToFractions(nn.Module):
    """Maps views, float (galaxy, band, y, x) from 0 to 1, to joint fractions and the last layer's inputs."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.network = weights.network

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return the joint fractions (galaxy, answer) and the features (galaxy, feature)."""
        features = self.network.features[:-1](views)
        return self.network.head(self.network.features[-1](features)), features


def write_network(run: Path) -> Path:
    """Write the network of a run as ONNX beside its weights, so that it predicts without PyTorch.

    ONNX Runtime computes the fractions of 1, 3 and 5 random views before the file takes its name. Returns
    its path. Raises RunError when they differ by more than 1e-4, when the network cannot be written as ONNX,
    or when the extra `train` is not installed.
    """
    weights, path = load_weights(run), network_file(run)
    model, side = ViewsToFractions(weights).eval(), weights.recipe.input_size
    views = torch.rand(
        max(CHECKED), weights.recipe.bands, side, side, generator=torch.Generator().manual_seed(0)
    )
    metadata = weights.trained.as_metadata()
    with replacing(path) as temporary:
        try:
            _write(model, {"views": views}, [FRACTIONS, FEATURES], temporary, metadata)
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise RunError(f"{run}: PyTorch cannot write this network as ONNX: {reason}") from error
        with torch.inference_mode():
            expected = model(views)[0].numpy()
        _check(temporary, {"views": views.numpy()}, expected, path)
    return path


def export(
    run: Path, out: Path, *, side: int = 424, field: str | float | None = None, enlarge: bool = False
) -> float:
    """Write a run as an ONNX file for cutouts of `side` pixels; return its largest difference from PyTorch.

    `field` and `enlarge` say how much sky the cutouts show, as for `Predictor`.
    ONNX Runtime computes the fractions of 1, 3 and 5 random cutouts before the file takes its name. Raises
    RunError when they differ by more than 1e-4 or the extra `onnx` is not installed, StampError for too small
    cutouts.
    """
    weights = load_weights(run)
    shown = weights.trained.field_of(field, enlarge)
    model = CutoutsToFractions(weights, side, shown).eval()
    shape = (max(CHECKED), side, side, 3)
    cutouts = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    with replacing(out) as temporary:
        _write(model, {"cutouts": cutouts}, [FRACTIONS], temporary, _metadata(weights, shown))
        with torch.inference_mode():
            expected = model(cutouts).numpy()
        return _check(temporary, {"cutouts": cutouts.numpy()}, expected, out)


def is_exported(path: Path) -> bool:
    """Say whether a file is an ONNX file that hubblefork wrote."""
    with extras("exporting"):
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    try:
        return any(entry.key == "weights_sha256" for entry in onnx.load(path).metadata_props)
    except (DecodeError, OSError):
        return False


def _write(
    model: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    path: Path,
    metadata: dict[str, str],
) -> None:
    with extras("exporting"):
        import onnx
        import onnxscript.optimizer
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of PyTorch about itself
        program = torch.onnx.export(
            model,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("galaxy")},),
            verbose=False,
            optimize=False,
        )
    assert program is not None
    onnxscript.optimizer.fold_constants(program.model, input_size_limit=LARGE, output_size_limit=LARGE)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    proto = program.model_proto
    for described in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, proto.graph):
        del described.metadata_props[:]  # where in which file each layer was written
    _store_halves(proto.graph)
    onnx.helper.set_model_props(proto, metadata)
    onnx.save_model(proto, path)


def _store_halves(graph: Any) -> None:
    """Store the arrays that half precision holds exactly as such; they are cast when a graph is loaded."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for stored in graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.size < LARGE:
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves, values):
            name = stored.name
            stored.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
            casts.append(helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _check(path: Path, inputs: dict[str, np.ndarray], expected: np.ndarray, out: Path) -> float:
    """Return the largest difference of a file's fractions from those expected. Raises RunError."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    difference = max(
        float((np.abs(session.run([FRACTIONS], some)[0] - wanted) / np.maximum(1, wanted)).max())
        for galaxies in CHECKED
        for some in [{name: values[:galaxies] for name, values in inputs.items()}]
        for wanted in [expected[:galaxies]]
    )
    if not difference <= TOLERANCE:
        raise RunError(
            f"{out}: ONNX Runtime's fractions differ from PyTorch's by {difference:.2g}; not written"
        )
    return difference


def _metadata(weights: Weights, field: Field | None) -> dict[str, str]:
    return {
        "answers": json.dumps(
            [*weights.tree.columns, *concentrations(weights.tree)][: weights.trained.outputs]
        ),
        "tree": weights.tree.name,
        "recipe": recipe_text(weights.recipe),
        "field": "" if field is None else str(field),
        "weights_sha256": weights.digest,
        "hubblefork": __version__,
    }
