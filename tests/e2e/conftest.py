"""Fixtures of the browser, for every file here that wants one."""

from tests.browser import browser, visit

__all__ = ["browser", "visit"]
