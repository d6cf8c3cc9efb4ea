"""A mock sky to look at, for who has no catalogue yet."""

from __future__ import annotations

from pathlib import Path

from hubblefork.api.predictions import write_predictions
from hubblefork.api.skies import mock_sky
from hubblefork.io import Progress, silent

GALAXIES = 300


def example(folder: Path, *, galaxies: int = GALAXIES, progress: Progress = silent) -> tuple[Path, str]:
    """Return a catalogue that `fork` predicted of a mock sky in a folder, and its images; made once.

    Raises ExtraMissing without the extra `mock`, DiskError.
    """
    catalogue, images = folder / "predictions.parquet", folder / "sky" / "images_training_rev1.zip"
    if not catalogue.exists():
        mock_sky(folder / "sky", galaxies, progress=progress)
        write_predictions("fork", [images], catalogue, interval=0.9, overwrite=True, progress=progress)
    return catalogue, str(images)
