"""From volunteers on the Zooniverse, and back to them: counts of votes, sets of subjects."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from hubblefork.data import counts
from hubblefork.data.counts import VoteSummary
from hubblefork.io import Progress, silent
from hubblefork.zoo import DecisionTree, load_tree

Place = str | PathLike[str]


def count_votes(
    export: Place,
    out: Place,
    *,
    tree: str | DecisionTree = "galaxy_zoo_2",
    tasks: Place | None = None,
    id_name: str = "",
    workflow: str = "",
    versions: Sequence[str] = (),
    gold_standard: bool = False,
    progress: Progress = silent,
) -> VoteSummary:
    """Write the votes in a Zooniverse export of classifications, one row a galaxy, and say what it came to.

    `export` is Panoptes' CSV, or Ouroboros' of Galaxy Zoo 3 and 4, compressed or not. `out` gets `galaxy_id`,
    the number of `volunteers` and counts in the layout of galaxy-datasets, `<out>.rejects.csv` the rows that
    cannot be read. A volunteer counts once for a galaxy, with the first classification. `tasks` is a TOML
    file that says which task is which question, `id_name` what in a subject's metadata names its galaxy. Of a
    project with several workflows one is counted with `workflow` (its id or name), of its versions some with
    `versions` ("66" or "66.425"); classifications of experts in gold-standard mode with `gold_standard`.
    Raises CatalogueError, TreeError, DiskError.

    >>> hf.count_votes("classifications.csv", "votes.parquet", tree="gz_decals_5").galaxies
    3
    """
    return counts.count_votes(
        Path(export),
        Path(out),
        tree=load_tree(tree) if isinstance(tree, str) else tree,
        tasks=None if tasks is None else Path(tasks),
        id_name=id_name,
        workflow=workflow,
        versions=versions,
        gold_standard=gold_standard,
        progress=progress,
    )
