"""The project's own settings on PostgreSQL and Valkey servers of the tests' own.

They live in a folder for each process that runs tests: pub/sub of Valkey and a server that a test
kills would otherwise be felt by the tests beside it. The fixture `servers` starts them; they end
with the tests.
"""

from __future__ import annotations

import os

from tests.paths import TEST_ROOT

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # "" without pytest-xdist, and in its controller
ROOT = TEST_ROOT / WORKER

for name in list(os.environ):
    # Nothing of the developer's own environment may decide what a test sees.
    if name.startswith(
        (
            *("AWS_", "BEDROCK_", "CACHE_", "CERTIFICATION_", "DATABASE_", "EMULATOR_", "REDIS_"),
            "WEBHOOK_",
        )
    ):
        del os.environ[name]
os.environ |= {
    "MYIA_ROOT": str(ROOT),
    "BEDROCK_BACKEND": "emulator",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "EMULATOR_CONTROL_SECRET": "of-the-tests",
    "LOG_FORMAT": "json",
    "SLOW_REQUEST_MS": "0",  # a crowded machine is slow, and says so between the lines of a test
    "SLOW_QUERY_MS": "0",
    "CERTIFICATION_BULK_WORKERS": "1",  # whatever the machine has
    "API_LOGINS_PER_MINUTE": "0",  # all tests come from one address
    "VERIFICATIONS_PER_MINUTE": "0",
    # a test's transaction never commits, so nothing tells that it changed something
    "API_CACHE_SECONDS": "0",
    "PUBLIC_CACHE_SECONDS": "0",
}
ROOT.mkdir(parents=True, exist_ok=True)
os.environ["DJANGO_SETTINGS_MODULE"] = "myia.settings"  # for the processes that tests start

from myia.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher"
]  # people are made for every test; a real hash takes long
# Each test client loads the middleware anew, and WhiteNoise would read all static files each time:
# half of the time of a test that calls one page.
WHITENOISE_AUTOREFRESH = True
