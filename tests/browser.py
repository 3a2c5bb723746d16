"""A real browser for tests of the pages: visitors, and everything the browser complains about."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from certification.models import User

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    "/usr/bin/chromium",
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
PASSWORD = "a-long-test-password"
expect.set_options(timeout=30_000)  # ms: a bound for what must happen, never a measure of how fast

NEEDS_BROWSER = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists() and "MYIA_REQUIRE_BROWSER" not in os.environ,
        reason="no Chromium here: install chromium or google-chrome to run browser tests",
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests; each opens windows of its own.

    Playwright's synchronous interface keeps an event loop running in this thread, so Django takes
    the test's own queries for asynchronous ones; they are not: nothing else runs in this thread
    while they do. It also gives them connections of their own, which nobody else would give back.
    """
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
        connections.close_all()


@dataclass
class Visitor:
    """A page of somebody's, and everything the browser complained about."""

    page: Page
    root: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.root + path)
        return self.page

    def log_in(self, email: str, path: str = "/matrix/") -> Page:
        """Open a page as somebody who logged in before."""
        client = Client()
        client.force_login(User.objects.get(email=email))
        session = client.cookies["sessionid"].value
        cookie = {"name": "sessionid", "value": session, "url": self.root}
        self.page.context.add_cookies([cookie])  # type: ignore[list-item]
        return self.open(path)

    def fill_in_login(self, email: str, path: str) -> Page:
        """Log in by the form, which leads to the page."""
        self.open(f"/login/?next={path}")
        self.page.get_by_label("E-mail").fill(email)
        self.page.locator("#id_password").fill(PASSWORD)
        with self.page.expect_navigation():  # until its scripts have run
            self.page.locator("main button").click()
        return self.page

    @property
    def overflow(self) -> int:
        """How many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture
def visit(browser: Browser, live_server: LiveServer) -> Iterator[Any]:
    """Visitors by window width and colour scheme; at the end none of them may have seen a
    complaint.
    """
    visitors: list[Visitor] = []

    def come(width: int = 1280, scheme: str = "light", **options: Any) -> Visitor:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en-US", **options
        )  # type: ignore[arg-type]
        visitor = Visitor(context.new_page(), live_server.url)
        visitor.page.on("console", lambda message: _note(visitor, message))
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitor.page.on("request", lambda request: _note_host(visitor, request.url))
        visitors.append(visitor)
        return visitor

    yield come
    for visitor in visitors:
        visitor.page.context.close()
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    assert not complaints, complaints


def _note(visitor: Visitor, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning"):
        visitor.complaints.append(message.text)


def _note_host(visitor: Visitor, address: str) -> None:
    """Nothing is asked of another host."""
    if not address.startswith((visitor.root, "data:", "blob:")):
        visitor.complaints.append(f"a request to {address}")


class Mouse:
    """Does with the mouse what a test of a day wants done."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, target: Locator) -> None:
        target.click()

    def press_cell(self, cell: Locator) -> None:
        cell.click()

    def tick(self, box: Locator) -> None:
        box.check()

    def write(self, field: Locator, text: str) -> None:
        field.fill(text)


# At most how many stops of Tab lie between the focus and an element.
STOPS_BETWEEN = """element => {
  const fields = "a[href], button, input, select, textarea, summary, [tabindex]";
  const modal = document.querySelector("dialog:modal");
  const stops = [...document.querySelectorAll(fields)].filter(each =>
    each.tabIndex >= 0 && !each.disabled && each.checkVisibility({visibilityProperty: true}) &&
    (each.type !== "radio" || each.checked) && (!modal || modal.contains(each)));
  const here = stops.indexOf(document.activeElement), there = stops.indexOf(element);
  if (there < 0) return 0;
  return (there - here - 1 + stops.length) % stops.length;
}"""


class Keyboard(Mouse):
    """Does the same with nothing but keys."""

    MAX_TABS = 400

    def reach(self, target: Locator) -> None:
        """Go from where the focus is to the target, by Tab alone."""
        target.wait_for()
        for _ in range(target.evaluate(STOPS_BETWEEN)):
            self.page.keyboard.press("Tab")
        for _ in range(self.MAX_TABS):
            self.page.keyboard.press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"{target} is not reached by Tab")

    def press(self, target: Locator) -> None:
        self.reach(target)
        self.page.keyboard.press("Enter")

    def press_cell(self, cell: Locator) -> None:
        """Go to a cell of the matrix, which is one stop of Tab, by its arrow keys."""
        self.reach(self.page.locator('#matrix tbody td a[tabindex="0"]'))
        focus = self.page.locator("#matrix tbody td a:focus")
        here = "link => [link.closest('tr').rowIndex, link.closest('td').cellIndex]"
        goal = cell.evaluate(here)
        for _ in range(self.MAX_TABS):
            row, column = focus.evaluate(here)
            if [row, column] == goal:
                self.page.keyboard.press("Enter")
                return
            vertical = "ArrowDown" if row < goal[0] else "ArrowUp"
            horizontal = "ArrowRight" if column < goal[1] else "ArrowLeft"
            self.page.keyboard.press(vertical if row != goal[0] else horizontal)
            if focus.evaluate(here) == [row, column]:
                self.page.keyboard.press(horizontal)
        raise AssertionError(f"{cell} is not reached by arrow keys")

    def tick(self, box: Locator) -> None:
        self.reach(box)
        self.page.keyboard.press("Space")
        expect(box).to_be_checked()

    def write(self, field: Locator, text: str) -> None:
        self.reach(field)
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.type(text)
