"""Where network and science meet, in catalogues: runs judged on their split, baselines alone, folds."""

from hubblefork.judging.folds import crossval
from hubblefork.judging.intervals import adding_bounds, intervals_of
from hubblefork.judging.runs import baselines_of, evaluate_run

__all__ = ["adding_bounds", "baselines_of", "crossval", "evaluate_run", "intervals_of"]
