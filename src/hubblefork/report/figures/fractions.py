"""Moved."""

from hubblefork.report.fractions import *  # noqa: F403
