"""The errors of the embedded servers, as sentences that explain what to do."""

from __future__ import annotations

import errno
import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class EmbeddedError(Exception):
    """An embedded server cannot be started or stopped; the text says what to do."""


class Silent(EmbeddedError):
    """A server's process lives and does not answer."""


def explain(problem: str, output: str, folder: Path) -> str:
    """Return a sentence with the telling lines of what a server printed."""
    if re.search(r"No space left on device|Disk quota exceeded", output):
        return f"{problem}: {disk_full(folder)}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:|cannot|denied|refus", line)
    ]
    reason = " ".join((telling or lines)[-3:])
    return f"{problem}: {reason or 'it printed nothing.'} (in {folder})"


def disk_full(folder: Path) -> str:
    """Return the sentence for a full disk."""
    free = shutil.disk_usage(folder).free // 1_000_000
    return (
        f"the disk that holds {folder} is full ({free} MB free; about 200 MB are needed). Free "
        "some space and try again, or set DATABASE_URL and REDIS_URL to servers elsewhere. No data "
        "was lost."
    )


def os_errors_as_embedded_error(function: Callable[P, R]) -> Callable[P, R]:
    """Turn what the operating system refuses into an `EmbeddedError`."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            path = Path(error.filename) if isinstance(error.filename, str) else Path.cwd()
            sentence = f"The embedded servers cannot be used: {error}."
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                parents = (path, *path.absolute().parents)
                existing = next(parent for parent in parents if parent.exists())
                sentence = f"The embedded servers cannot write: {disk_full(existing)}"
            elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                sentence = (
                    f"The embedded servers need to write {path}, and this user may not: run MyIA "
                    "as the owner of that folder, or set DATABASE_URL and REDIS_URL to servers of "
                    "your own."
                )
            raise EmbeddedError(sentence) from error

    return guarded
