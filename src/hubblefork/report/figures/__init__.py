"""Moved to report.answers, report.fractions, report.comparisons."""
