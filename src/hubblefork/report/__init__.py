"""The HTML page of a run."""

from hubblefork.report.write import write_report

__all__ = ["write_report"]
