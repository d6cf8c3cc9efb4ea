"""Moved."""

from hubblefork.report.answers import predicted_against_volunteers as predicted_against_volunteers
from hubblefork.report.answers import rmse_per_answer as rmse_per_answer
from hubblefork.report.panels import histograms as label_histograms  # noqa: F401
