"""Moved."""

from hubblefork.report.answers import *  # noqa: F403
