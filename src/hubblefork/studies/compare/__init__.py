"""The comparison of networks: one table on the same galaxies, what is beaten for sure, learning curves."""

from hubblefork.studies.compare.plan import Wanted
from hubblefork.studies.compare.study import Ways, run_compare

__all__ = ["Wanted", "Ways", "run_compare"]
