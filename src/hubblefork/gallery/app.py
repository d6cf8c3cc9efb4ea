"""The gallery as an application: its endpoints, static files and errors together."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from hubblefork.errors import HubbleforkError, ImageError
from hubblefork.gallery import browse, comparing, explain, finding, marking, saving
from hubblefork.gallery.gallery import Gallery
from hubblefork.gallery.guard import Guard
from hubblefork.gallery.likeness import NotSeen

STATIC = resources.files("hubblefork.gallery") / "static"


def create(gallery: Gallery, token: str = "") -> FastAPI:
    """Return the application that shows a gallery, to those who have the token if there is one."""
    app = FastAPI(title="hubblefork gallery", docs_url=None, redoc_url=None)
    app.state.gallery = gallery
    gallery.likeness.resume()
    app.add_middleware(Guard, token=token)
    app.mount("/static", StaticFiles(directory=str(STATIC)), name="static")
    app.add_exception_handler(HubbleforkError, _refused)
    for part in (browse, comparing, explain, finding, marking, saving):
        app.include_router(part.router)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what a request cannot have with the reason."""
    status = 404 if isinstance(error, ImageError) and request.method == "GET" else 400
    needs = {"needs": "features"} if isinstance(error, NotSeen) else {}
    return JSONResponse({"error": str(error), **needs}, status)
