"""The lab report, all of it: three networks, eighteen figures, six tables, and what it leaves open."""

from hubblefork.studies.lab.study import Ways, run_lab, write_record

__all__ = ["Ways", "run_lab", "write_record"]
