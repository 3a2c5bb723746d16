"""Pictures of every page in both languages, three widths and both themes: `make gallery`.

No test: pytest collects it only by its name.
"""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path
from typing import Any

from tests.browser import NEEDS_BROWSER, Visitor
from tests.e2e.test_pages_days import INSIDE, OPERATORS, PUBLIC, World, addresses, world
from tests.paths import PROJECT

__all__ = ["world"]

pytestmark = NEEDS_BROWSER

FOLDER = Path(os.environ.get("GALLERY", PROJECT / "gallery"))
LANGUAGES, WIDTHS, THEMES = ("en", "pt-br"), (390, 768, 1440), ("light", "dark")


def test_gallery(visit: Any, world: World) -> None:
    """Take the pictures, and write a page that shows them side by side."""
    visitor = visit()
    pages = {name_of(path, world): path for path in addresses(world, PUBLIC, INSIDE, OPERATORS)}
    visitor.open(pages.pop("login"))
    for width in WIDTHS:
        picture(visitor, "login", width)
    visitor.log_in("operator@example.org", "/")
    for language in LANGUAGES:
        visitor.page.context.add_cookies(
            [{"name": "django_language", "value": language, "url": visitor.root}]
        )
        for name, path in pages.items():
            visitor.open(f"{path}{'&' if '?' in path else '?'}lang={language}")
            for width in WIDTHS:
                picture(visitor, f"{name}.{language}", width)
    visitor.complaints.clear()
    write_index()


def name_of(path: str, world: World) -> str:
    """Return a page's name for its files: its address without what changes from run to run."""
    for value, name in ((world.certificate.code, "code"), (world.waiting.pk, "job")):
        path = path.replace(str(value), name)
    words = re.split(r"[^\w.]+", path.replace(str(world.failed.pk), "run"))
    return "-".join(filter(None, words))[:80] or "overview"


def picture(visitor: Visitor, name: str, width: int) -> None:
    page = visitor.page
    page.set_viewport_size({"width": width, "height": 900})
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.screenshot(path=FOLDER / f"{name}.{width}.{theme}.png", full_page=True)


def write_index() -> None:
    names = sorted({file.name.rsplit(".", 3)[0] for file in FOLDER.glob("*.png")})
    rows = "".join(
        f"<h2>{escape(name)}</h2><p>"
        + "".join(
            f'<a href="{file}"><img loading="lazy" height="360" alt="{file}" src="{file}"></a> '
            for width in WIDTHS
            for theme in THEMES
            if (FOLDER / (file := f"{name}.{width}.{theme}.png")).exists()
        )
        + "</p>"
        for name in names
    )
    (FOLDER / "index.html").write_text(f"<!doctype html><title>Pages</title>{rows}")
