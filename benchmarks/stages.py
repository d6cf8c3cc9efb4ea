"""Every stage of the main job as a whole process: seconds and peak memory.

    python benchmarks/stages.py [KAGGLE] [--epochs 1] [--rounds 1] [--record FOLDER]

KAGGLE is a folder of Kaggle's files; without it a mock sky is made. Start-up of Python and its libraries is
counted in, since a person waits for it too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import Round, kaggle_files, keep, run

TEST = "images_test_rev1.zip"


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    with tempfile.TemporaryDirectory(dir=arguments.out) as place:
        files = kaggle_files(arguments.kaggle, Path(place), galaxies=1000)
        rounds = []
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory(dir=place) as folder:
                rounds.append(one_round(files, Path(folder), arguments.set))
    keep("stages", rounds, arguments.record)


def one_round(files: Path, folder: Path, settings: list[str]) -> Round:
    data, training, catalogue = folder / "data", folder / "run", folder / "predictions.parquet"
    changes = [word for setting in settings for word in ("--set", setting)]
    stages = {
        "ingest": ["ingest", files, "--out", data],
        "split": ["split", data, "--test", "20", "--validation", "10"],
        "train": ["train", data, "--recipe", "lab-cnn", "--out", training, *changes],
        "evaluate": ["evaluate", training],
        "predict": ["predict", training, files / TEST, "--out", catalogue],
        "mergers": ["mergers", catalogue],
        "report": ["report", training, "--predictions", catalogue],
    }
    found: Round = {}
    for name, stage in stages.items():
        done = run([sys.executable, "-m", "hubblefork", *stage])
        found[name, "s"], found[name, "GB at most"] = done.seconds, done.memory
    return found


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("kaggle", nargs="?", type=Path, help="a folder of Kaggle's files")
    parser.add_argument("--out", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument(
        "--set", nargs="+", default=["epochs=1"], metavar="key=value", help="for the training"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--record", type=Path, help="folder for the table and its JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
