"""Networks of one's own: a Python file that registers them with timm, so that `encoder:NAME` finds them."""

from __future__ import annotations

import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from hubblefork.errors import RecipeError


def run_networks(path: Path) -> None:
    """Run a file that registers networks (`timm.models.register_model`), as if it were imported.

    It is code, and does what it says: it is only ever run where a person names it, never because weights or a
    recipe do. Raises RecipeError for a file that is not there or that fails, with the line.
    """
    path = path.resolve()
    spec = spec_from_file_location(f"networks_of_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RecipeError(f"{path}: there is no Python file of networks there")
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise RecipeError(f"{where}: {type(error).__name__}: {error}") from error
