"""Moved."""

from hubblefork.report.comparisons import *  # noqa: F403
