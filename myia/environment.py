"""Read the environment for the settings. An invalid value raises a sentence with its name and what
is expected.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from certification.lib import redis_address
from certification.lib.postgresql import hosts

Number = TypeVar("Number", int, float)

YES = frozenset({"1", "true", "yes", "on", "y", "ok"})
NO = frozenset({"0", "false", "no", "off", "n"})
MAX_INT = 2**31 - 1
FILE_SUFFIX = "_FILE"


class Environment(environ.Env):
    """As `environ.Env`, with limits; an empty number or switch counts as unset. Raises
    ImproperlyConfigured for an invalid value.
    """

    def int(
        self,
        var: str,
        default: Any = environ.Env.NOTSET,
        minimum: builtins.int = -MAX_INT,
        maximum: builtins.int = MAX_INT,
    ) -> builtins.int:
        limits = ""
        if maximum != MAX_INT:
            limits = f" between {minimum} and {maximum}"
        elif minimum != -MAX_INT:
            limits = f" of at least {minimum}"
        return self.number(
            builtins.int, var, default, f"a whole number{limits}", (minimum, maximum)
        )

    def port(self, var: str, default: builtins.int) -> builtins.int:
        """Read a TCP port; 0 means none."""
        return self.int(var, default, 0, 65535)

    def float(
        self, var: str, default: Any = environ.Env.NOTSET, minimum: builtins.float = -math.inf
    ) -> builtins.float:
        limits = f" of at least {minimum:g}" if minimum > -math.inf else ""
        return self.number(
            builtins.float, var, default, f"a number{limits}", (minimum, sys.float_info.max)
        )

    def bool(self, var: str, default: Any = environ.Env.NOTSET) -> builtins.bool:
        text = self.str(var, default="").strip().lower()
        if not text and default is not environ.Env.NOTSET:
            return builtins.bool(default)
        if not text:
            return builtins.bool(super().bool(var))
        if text not in YES | NO:
            raise invalid(var, self.str(var), "1 or 0 (true or false, yes or no, on or off)")
        return text in YES

    def choice(self, var: str, default: str, *choices: str) -> str:
        """Read one of a few words."""
        text = self.str(var, default="").strip() or default
        if text not in choices:
            raise invalid(var, text, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return text

    def secret(self, var: str) -> str:
        """Read what nobody else may know, "" when unset: from the variable, else from the file that
        <var>_FILE names, as containers and service managers hand secrets over.
        """
        text = str(self.str(var, default=""))
        file = str(self.str(var + FILE_SUFFIX, default=""))
        if text or not file:
            return text
        try:
            return Path(file).read_text().strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ImproperlyConfigured(
                f"{var}{FILE_SUFFIX} is {file[:80]!r}, and this file cannot be read: {reason}."
            ) from None

    def address(self, var: str) -> str:
        """Read a URL, "" when unset, as a secret: it may have a password, which no error repeats.
        Only the ports of its hosts are checked here.
        """
        text = self.secret(var)
        try:
            parts = urlsplit(text)
            for host in parts.netloc.rpartition("@")[2].split(","):
                urlsplit(f"//{host}").port  # noqa: B018 - raises for an invalid port
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is not a valid address: {error}.") from None
        return text

    def database(self, url: str) -> dict[builtins.str, Any]:
        """Return Django's settings of a database from its URL, which may name several servers or
        a folder of sockets (`postgresql://user:password@/name?host=/folder`).
        """
        config: dict[str, Any] = self.db_url_config(url, engine="certification.lib.postgresql")
        options = config.setdefault("OPTIONS", {})
        names = urlsplit(url).netloc.rpartition("@")[2].split(",")
        if "host" in options:
            config["HOST"] = options.pop("host")
        elif len(names) > 1:
            parts = [urlsplit(f"//{name}") for name in names]
            config["HOST"] = ",".join(part.hostname or "" for part in parts)
            config["PORT"] = ",".join(str(part.port or hosts.DEFAULT_PORT) for part in parts)
        if hosts.are_several(config["HOST"]):
            options.setdefault("target_session_attrs", "read-write")
            options.setdefault("connect_timeout", 2)  # then the next one is asked
        return config

    def redis(self, var: str) -> str:
        """Read the address of a Redis, or of the Sentinels that know it; "" when unset."""
        text = self.address(var)
        try:
            redis_address.for_kombu(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is not a valid address: {error}.") from None
        return text

    def secret_urls(self, var: str) -> list[builtins.str]:
        """Read addresses with blanks or line ends between them, from the variable or from the file
        that <var>_FILE names. They are not repeated in errors.
        """
        text, file = self.str(var, default=""), self.str(f"{var}_FILE", default="")
        if file and not text:
            try:
                text = Path(file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                message = f"{var}_FILE is {file!r}, which is no readable text file."
                raise ImproperlyConfigured(message) from None
        return text.split()

    def minutes(self, var: str, default: tuple[builtins.int, ...]) -> tuple[builtins.int, ...]:
        """Read as many numbers of minutes as the default has, with commas between them."""
        text = self.str(var, default="").strip()
        parts = [part.strip() for part in text.split(",")]
        if not text:
            return default
        if len(parts) != len(default) or not all(part.isdecimal() for part in parts):
            raise invalid(var, text, f"{len(default)} numbers with commas between them")
        return tuple(min(builtins.int(part), MAX_INT) for part in parts)

    def limits(
        self, prefix: str, others: tuple[builtins.str, ...]
    ) -> dict[str, tuple[builtins.float, ...]]:
        """Read every variable that begins so, but for those that begin like `others`: one number,
        or two with a comma between them. By the rest of its name in lower case.
        """
        result = {}
        for name, text in self.ENVIRON.items():
            if name.startswith(prefix) and not name.startswith(others) and text.strip():
                try:
                    numbers = tuple(builtins.float(part) for part in text.split(","))
                except ValueError:
                    numbers = ()
                if not 1 <= len(numbers) <= 2 or not all(map(math.isfinite, numbers)):
                    raise invalid(name, text, "a number, or two with a comma between them")
                result[name.removeprefix(prefix).lower()] = numbers
        return result

    def days(self, prefix: str) -> dict[str, builtins.int]:
        """Read every variable that begins so: days, 0 for never. By the rest of its name in lower
        case.
        """
        return {
            name.removeprefix(prefix).lower(): self.int(name, minimum=0, maximum=36_500)
            for name, text in self.ENVIRON.items()
            if name.startswith(prefix) and text.strip()
        }

    def number(
        self,
        kind: Callable[[str], Number],
        var: str,
        default: Any,
        expected: str,
        limits: tuple[Number, Number],
    ) -> Number:
        """Read a number within limits."""
        text = self.str(var, default="").strip()
        if not text and default is not environ.Env.NOTSET:
            return kind(default)
        try:
            value = kind(text)
        except ValueError:
            raise invalid(var, text, expected) from None
        if not limits[0] <= value <= limits[1]:
            raise invalid(var, text, expected)
        return value


def invalid(var: str, text: str, expected: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{var} is {text[:80]!r}; it must be {expected}.")
