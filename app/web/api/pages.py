"""The pages of the view: each HTML file of app/web/static is one, at its name; index.html is at /."""

from pathlib import Path

from aiohttp import web

from app.web.api.routes import OPEN, READ, HttpRoute

STATIC = Path(__file__).parents[1] / "static"
FOR_ALL = {"login"}


def pages() -> list[HttpRoute]:
    """A route for each."""
    return [_page(file) for file in sorted(STATIC.glob("*.html"))]


def _page(file: Path) -> HttpRoute:
    async def page() -> web.FileResponse:
        return web.FileResponse(file)

    page.__doc__ = f"The page {file.stem}."
    path = "/" if file.stem == "index" else f"/{file.stem}"
    role = OPEN if file.stem in FOR_ALL else READ
    return HttpRoute("GET", path, (role,), {200: str}, page, in_document=False, any_query=True)
