"""The soft-target study: from baselines over VGGs and ResNet-50 to a tuned network of seven blocks."""

from hubblefork.studies.soft_target.study import Ways, run_soft_target

__all__ = ["Ways", "run_soft_target"]
