"""Exports of classifications as the Zooniverse writes them, small ones for tests."""

import csv
import json
from pathlib import Path

COLUMNS = [
    "classification_id",
    "user_name",
    "user_id",
    "user_ip",
    "workflow_id",
    "workflow_name",
    "workflow_version",
    "created_at",
    "gold_standard",
    "expert",
    "metadata",
    "annotations",
    "subject_data",
    "subject_ids",
]
SMOOTH = "Is the galaxy simply smooth and rounded, with no sign of a disk?"
IMAGE = "![smooth_triple.png](https://panoptes-uploads.zooniverse.org/x/55a.png) "


def answered(*pairs, **labels):
    """Return annotations: (task, value) pairs, the text of a task by its key."""
    return [{"task": task, "task_label": labels.get(task, ""), "value": value} for task, value in pairs]


def row(annotations, *, user="ada", subject="1", metadata=None, **cells):
    """Return the cells of one classification by a logged-in volunteer; "" for an anonymous one."""
    data = {subject: {"retired": None, **({"iauname": f"J{subject}"} if metadata is None else metadata)}}
    return {
        "classification_id": "1",
        "user_name": user or "not-logged-in-5f",
        "user_id": str(sum(user.encode())) if user else "",
        "user_ip": "5f",
        "workflow_id": "6122",
        "workflow_version": "66.425",
        "metadata": json.dumps({"source": "api", "user_agent": 'a "browser", with quotes'}),
        "annotations": annotations if isinstance(annotations, str) else json.dumps(annotations),
        "subject_data": json.dumps(data),
        "subject_ids": subject,
        **cells,
    }


def write_export(path: Path, rows, columns=COLUMNS):
    """Write rows of cells as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path
