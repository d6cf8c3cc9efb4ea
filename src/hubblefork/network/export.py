"""A trained network as one ONNX file: the cutouts' preprocessing, the network and its head.

    session = onnxruntime.InferenceSession("fork.onnx")
    (fractions,) = session.run(None, {"cutouts": cutouts})     # uint8 (galaxy, side, side, 3)

The file's metadata name the answers in their order, the tree, the recipe and the weights' SHA-256. Cutouts
are resampled as by `data.images.resample`, from full scale; ours are decoded at half scale where that is
enough, which moves a fraction a little (the tour says by how much).
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hubblefork import __version__
from hubblefork.data.field import Field
from hubblefork.data.images import Header, ImageFault, crop_of, taps
from hubblefork.errors import RunError, StampError
from hubblefork.io import replacing
from hubblefork.network.augment import still_views
from hubblefork.network.predictor import field_of
from hubblefork.network.recipe import recipe_text
from hubblefork.network.weights import Weights, load_weights

TOLERANCE = 1e-4
CHECKED = (1, 3, 5)


class CutoutsToFractions(nn.Module):
    """Maps cutouts, uint8 (galaxy, side, side, 3), to joint fractions (galaxy, answer)."""

    filters: Tensor

    def __init__(self, weights: Weights, side: int, field: Field | None = None) -> None:
        super().__init__()
        recipe = weights.recipe
        try:
            crop = crop_of(Header("", side, side), recipe.stamps, field)
        except ImageFault as fault:
            raise StampError(f"cutouts of {side} pixels: {fault}") from fault
        axis = taps(side, crop, recipe.stamp_size, 1)
        dense = np.zeros((recipe.stamp_size, side), np.float32)
        dense[:, axis.window] = axis.weights.toarray()
        self.register_buffer("filters", torch.from_numpy(dense))
        self.input_size, self.augmentation = recipe.input_size, recipe.augmentation
        self.network = weights.network

    def forward(self, cutouts: Tensor) -> Tensor:
        """Return the joint fractions of cutouts."""
        rows = torch.einsum("sy,gyxb->gsxb", self.filters, cutouts.float())
        stamps = torch.einsum("tx,gsxb->gstb", self.filters, rows)
        stamps = (stamps + 0.5).floor().clamp(0, 255)
        return self.network(still_views(stamps, self.input_size, self.augmentation))


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
    shown = field_of(weights, field, enlarge)
    model = CutoutsToFractions(weights, side, shown).eval()
    shape = (max(CHECKED), side, side, 3)
    cutouts = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    with replacing(out) as temporary:
        _write(model, cutouts, temporary, _metadata(weights, shown))
        with torch.inference_mode():
            expected = model(cutouts).numpy()
        difference = _difference(temporary, cutouts.numpy(), expected)
        if not difference <= TOLERANCE:
            raise RunError(
                f"{out}: ONNX Runtime's fractions differ from PyTorch's by {difference:.2g}; not written"
            )
    return difference


def is_exported(path: Path) -> bool:
    """Say whether a file is an ONNX file that hubblefork wrote."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        return False
    try:
        return any(entry.key == "weights_sha256" for entry in onnx.load(path).metadata_props)
    except (DecodeError, OSError):
        return False


def _write(model: nn.Module, cutouts: Tensor, path: Path, metadata: dict[str, str]) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it and says so less clearly
    except ImportError as error:
        raise RunError(
            f"exporting needs onnx, onnxscript and onnxruntime ({error}): pip install 'hubblefork[onnx]'"
        ) from error
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of PyTorch about itself
        program = torch.onnx.export(
            model,
            (cutouts,),
            dynamo=True,
            input_names=["cutouts"],
            output_names=["fractions"],
            dynamic_shapes=({0: torch.export.Dim("galaxy")},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, metadata)
    onnx.save_model(proto, path)


def _difference(path: Path, cutouts: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a file's fractions from those expected, for each checked number."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return max(
        float(np.abs(session.run(None, {"cutouts": cutouts[:galaxies]})[0] - expected[:galaxies]).max())
        for galaxies in CHECKED
    )


def _metadata(weights: Weights, field: Field | None) -> dict[str, str]:
    return {
        "answers": json.dumps(list(weights.tree.columns)),
        "tree": weights.tree.name,
        "recipe": recipe_text(weights.recipe),
        "field": "" if field is None else str(field),
        "weights_sha256": weights.digest,
        "hubblefork": __version__,
    }
