"""Moved to `report.style`."""

from hubblefork.report.style import *  # noqa: F403
