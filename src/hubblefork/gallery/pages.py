"""The templates of the gallery; what they show is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse


@cache
def templates() -> jinja2.Environment:
    """Return the templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hubblefork.gallery"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page of the gallery that a request is of."""
    gallery = request.app.state.gallery
    shared = {"gallery": gallery, "tree": gallery.store.tree, "total": gallery.store.total}
    shared["quantities"] = gallery.store.quantities
    return HTMLResponse(templates().get_template(name).render(**shared, **values), status)
