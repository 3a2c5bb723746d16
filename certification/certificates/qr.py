"""Draw an address as a QR code, black on white in every theme."""

from __future__ import annotations

import io
from functools import lru_cache

import segno

BORDER = 4  # modules, as the standard asks for


def svg(address: str) -> bytes:
    """Return the picture, one user unit a module."""
    picture = io.BytesIO()
    code = segno.make(address, error="m", micro=False)
    code.save(picture, kind="svg", border=BORDER, light="#fff", xmldecl=False, svgns=True)
    return picture.getvalue()


@lru_cache(maxsize=500)  # drawing takes more than the rest of a certificate's page
def data_address(address: str) -> str:
    """Return the picture as a `data:` address."""
    code = segno.make(address, error="m", micro=False)
    return code.svg_data_uri(border=BORDER, light="#fff")
