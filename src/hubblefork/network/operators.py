"""Lets torchvision be imported beside a build of PyTorch that its compiled operators do not fit.

The published torchvision is compiled for one build of PyTorch. Beside another (a CPU build, say) its
library does not load, and then its import fails at the operators it meant to describe, and with it
timm's, Lightning's and torchmetrics'. None of those operators is used here; declared, they let it pass.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_declared: list[torch.library.Library] = []


def declare_missing_operators() -> bool:
    """Declare torchvision's operators when its library does not load; return whether that was needed."""
    found = find_spec("torchvision")
    if found is None or found.origin is None or _declared or _loads(Path(found.origin).parent):
        return bool(_declared)
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return True


def _loads(package: Path) -> bool:
    try:
        for compiled in package.glob("_C*"):
            torch.ops.load_library(compiled)
    except OSError:
        return False
    return True
