"""Moved to `report.tables`."""

from hubblefork.report.tables import plain as plain
