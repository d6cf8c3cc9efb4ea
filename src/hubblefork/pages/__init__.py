"""Pages, figures and tables of results; `write_report` makes the page of a run."""

from hubblefork.pages.run import write_report

__all__ = ["write_report"]
