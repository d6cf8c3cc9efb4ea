"""Networks: recipes, training and prediction.

The published torchvision is compiled for one build of PyTorch. With another build (for example a CPU build)
its library does not load, and importing torchvision, timm, Lightning or torchmetrics fails at the operators
that the library should define. Nothing here uses these operators; declaring them lets the import pass.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_library = torch.library.Library("torchvision", "FRAGMENT")


def _torchvision_loads() -> bool:
    spec = find_spec("torchvision")
    try:
        for compiled in Path(spec.origin).parent.glob("_C*") if spec and spec.origin else ():
            torch.ops.load_library(compiled)
    except OSError:
        return False
    return True


if not _torchvision_loads():
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
