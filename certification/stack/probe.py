"""`python -m certification.stack.probe URL`: exit with 0 when the address answers 200, else 1.

For health checks inside a container, whose image has no other client of HTTP. Loads nothing of
Django: it is run every few seconds.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 3


def fault(url: str) -> str:
    """Return why the address is not well, "" when it answers 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 - ours
            return "" if response.status == 200 else f"{url} answered {response.status}"
    except urllib.error.HTTPError as error:
        return f"{url} answered {error.code}"
    except (OSError, ValueError) as error:
        return f"{url} cannot be reached: {error}"


def main() -> None:
    """Exit with what is wrong, if anything is."""
    if len(sys.argv) != 2:
        sys.exit("Name one address: python -m certification.stack.probe http://127.0.0.1:3001/live")
    sys.exit(fault(sys.argv[1]) or None)


if __name__ == "__main__":
    main()
