"""Moved to `report.panels`."""

from hubblefork.report.panels import *  # noqa: F403
