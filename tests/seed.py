"""The cluster that PostgreSQL servers of the tests begin with: the migrated database `myia` with
the shipped catalogue, and a copy of it to make test databases from. Making it takes 10 s of CPU, a
copy of its folder 0.2 s, so it is made once for all processes that run tests.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from certification.stack import embedded
from certification.stack.embedded.postgres import data_folder
from certification.stack.embedded.privileges import server_folder
from tests.paths import PROJECT, TEST_ROOT

TEMPLATE = "template_of_tests"
KINDS = (".py", ".json", ".txt")


@functools.cache
def digest() -> str:
    """Follow from everything that decides what the databases hold."""
    package = PROJECT / "certification"
    files = [
        *package.glob("migrations/*.py"),
        *package.glob("models/*.py"),
        *package.glob("bedrock/**/*"),
        package / "apps.py",
        PROJECT / "myia" / "settings.py",
        PROJECT / "requirements" / "base.txt",
        Path(__file__),
        Path(__file__).with_name("database.py"),
    ]
    contents = (path.read_bytes() for path in sorted(files) if path.suffix in KINDS)
    return hashlib.blake2b(b"\0".join(contents), digest_size=6).hexdigest()


def plant(root: Path) -> None:
    """Have the installation at `root` begin with a copy of the cluster, unless it has one. Its
    servers do not run yet.
    """
    mark, data = root / ".myia" / "seed", data_folder(root)
    if data.exists() and mark.exists() and mark.read_text() == digest():
        return
    embedded.stop(root)
    shutil.rmtree(data, ignore_errors=True)
    server_folder(root, "postgres")
    subprocess.run(["cp", "-a", data_folder(cluster()), data], check=True)
    mark.write_text(digest())


def cluster() -> Path:
    """Return the installation that holds the cluster, made if this is the first call of all."""
    folder = TEST_ROOT / f"seed-{digest()}"
    TEST_ROOT.mkdir(parents=True, exist_ok=True)
    with (TEST_ROOT / "seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in TEST_ROOT.glob("seed-*"):
                embedded.discard(old)
                shutil.rmtree(old)
            draft = folder.with_suffix(".new")
            draft.mkdir()
            command = [sys.executable, "-m", "tests.seed"]
            env = {**os.environ, "MYIA_TEST_ROOT": str(draft), "PYTEST_XDIST_WORKER": ""}
            subprocess.run(command, cwd=PROJECT, env=env, check=True)
            draft.rename(folder)
    return folder


def make() -> None:
    """Make the cluster of the settings' installation, and leave its servers stopped."""
    import django  # noqa: PLC0415 - only where it is made

    embedded.ensure(TEST_ROOT, durable=False)
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from certification.models.catalogue import load_shipped  # noqa: PLC0415
    from tests import database  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    load_shipped()
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    database.end_sessions("myia")
    with database.administration() as server:
        server.execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE "myia"')
    connection.settings_dict["NAME"] = TEMPLATE
    database.copy_tables()
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    embedded.stop(TEST_ROOT)


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    make()
