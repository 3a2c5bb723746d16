"""Files of others are those that we looked at."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings

VENDOR = Path(settings.BASE_DIR) / "static" / "js" / "vendor"
CHECKSUMS = {
    "idiomorph-ext.min.js": "1589f425608653a841fa06ef2bb103a59e19f1e6d27064cff894d365efd6d948",
}


def test_each_has_its_checksum() -> None:
    files = {path.name: path.read_bytes() for path in VENDOR.glob("*.js")}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == CHECKSUMS
