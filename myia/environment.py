"""The environment as the settings read it: a value that is none is told in a sentence, with its
name and what is expected.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

Number = TypeVar("Number", int, float)

YES = frozenset({"1", "true", "yes", "on", "y", "ok"})
NO = frozenset({"0", "false", "no", "off", "n"})
LARGEST = 2**31 - 1


class Environment(environ.Env):
    """As `environ.Env`, with limits; an empty number or switch counts as unset.
    ImproperlyConfigured for what is none.
    """

    def int(
        self,
        var: str,
        default: Any = environ.Env.NOTSET,
        least: builtins.int = -LARGEST,
        most: builtins.int = LARGEST,
    ) -> builtins.int:
        limits = "" if (least, most) == (-LARGEST, LARGEST) else f" {_between(least, most)}"
        return self._number(
            builtins.int,
            var,
            default,
            f"a whole number{limits}",
            lambda value: least <= value <= most,
        )

    def port(self, var: str, default: builtins.int) -> builtins.int:
        """A TCP port; 0 where there shall be none."""
        return self.int(var, default, 0, 65535)

    def float(
        self, var: str, default: Any = environ.Env.NOTSET, least: builtins.float = -math.inf
    ) -> builtins.float:
        limits = f" of at least {least:g}" if least > -math.inf else ""
        return self._number(
            builtins.float,
            var,
            default,
            f"a number{limits}",
            lambda value: least <= value < math.inf,
        )

    def bool(self, var: str, default: Any = environ.Env.NOTSET) -> builtins.bool:
        text = self.str(var, default="").strip().lower()
        if not text:
            return (
                builtins.bool(super().bool(var, default=default))
                if default is environ.Env.NOTSET
                else builtins.bool(default)
            )
        if text not in YES | NO:
            raise _wrong(var, self.str(var), "1 or 0 (true or false, yes or no, on or off)")
        return text in YES

    def choice(self, var: str, default: str, *choices: str) -> str:
        """One of a few words."""
        text = self.str(var, default="").strip() or default
        if text not in choices:
            raise _wrong(var, text, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return text

    def address(self, var: str) -> str:
        """A URL, "" when unset. Only its port is looked at here; passwords are not repeated."""
        text = self.str(var, default="")
        try:
            urlsplit(text).port  # noqa: B018 - raises for what is no port
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is no address that can be used: {error}.") from None
        return text

    def _number(
        self,
        kind: Callable[[str], Number],
        var: str,
        default: Any,
        expected: str,
        fits: Callable[[Number], builtins.bool],
    ) -> Number:
        text = self.str(var, default="").strip()
        if not text and default is not environ.Env.NOTSET:
            return kind(default)
        try:
            value = kind(text)
        except ValueError:
            raise _wrong(var, text, expected) from None
        if not fits(value):
            raise _wrong(var, text, expected)
        return value


def _between(least: int, most: int) -> str:
    return f"of at least {least}" if most == LARGEST else f"between {least} and {most}"


def _wrong(var: str, text: str, expected: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{var} is {text[:80]!r}; it must be {expected}.")
