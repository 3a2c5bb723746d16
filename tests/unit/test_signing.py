"""Signatures are botocore's to the byte; credentials are read without blocking the event loop."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st

from certification.bedrock import signing
from certification.bedrock.signing import Credentials, signature_headers
from certification.lib import event_loop

NOW = datetime(2026, 11, 30, 7, 8, 9, tzinfo=UTC)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
segment = st.text(
    st.sampled_from("abcXYZ019-._~%/:"), max_size=30
)  # what a path can be made of once it is encoded


@given(
    path=segment.map(lambda text: f"/model/{text}/converse"),
    body=st.binary(max_size=200),
    token=st.one_of(st.none(), st.just("IQoJb3JpZ2lu")),
    service=st.sampled_from(["bedrock", "bedrock-mantle"]),
    region=st.sampled_from(["us-east-1", "sa-east-1", "us-gov-west-1"]),
    extra=st.dictionaries(st.sampled_from(["Accept", "anthropic-version", "X-Two"]), printable),
    method=st.sampled_from(["POST", "GET"]),
)
def test_a_signature_is_the_same_as_botocores(  # noqa: PLR0917 - hypothesis names them
    path: str,
    body: bytes,
    token: str | None,
    service: str,
    region: str,
    extra: dict[str, str],
    method: str,
) -> None:
    credentials = ReadOnlyCredentials("AKIAEXAMPLE", "secret/+key", token, None)
    headers = {"Content-Type": "application/json", **extra}
    host = f"{service}.{region}.example"
    request = AWSRequest(
        method=method, url=f"https://{host}{path}", headers=dict(headers), data=body
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
        botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    ours = signature_headers(
        credentials,
        service=service,
        region=region,
        method=method,
        host=host,
        path=path,
        headers=headers,
        body=body,
        at=NOW,
    )
    assert ours == {name: request.headers[name] for name in ours}
    assert "Authorization" in ours


def expiring(minutes: float, renewed: Any) -> RefreshableCredentials:
    """Credentials that are good for so long, and what renews them."""
    return RefreshableCredentials(
        "AKIAOLD", "s", "t", datetime.now(UTC) + timedelta(minutes=minutes), renewed, "test"
    )


def fresh() -> dict[str, str]:
    expiry = (datetime.now(UTC) + timedelta(hours=6)).isoformat()
    return {"access_key": "AKIANEW", "secret_key": "s", "token": "t", "expiry_time": expiry}


def source(loaded: Any) -> Credentials:
    credentials = Credentials(isolated=False)
    credentials.session()
    credentials._loaded = loaded
    return credentials


def test_credentials_that_expire_now_are_renewed_before_the_call_off_the_loop() -> None:
    threads: list[str] = []

    def renew() -> dict[str, str]:
        threads.append(threading.current_thread().name)
        return fresh()

    credentials = source(expiring(3, renew))
    assert event_loop.run(credentials.current()).access_key == "AKIANEW"
    assert threads
    assert "event-loop" not in threads


def test_credentials_that_expire_soon_are_used_while_they_are_renewed() -> None:
    release, done = threading.Event(), threading.Event()

    def renew() -> dict[str, str]:
        release.wait(30)
        done.set()
        return fresh()

    credentials = source(expiring(12, renew))
    assert [event_loop.run(credentials.current()).access_key for _ in range(3)] == ["AKIAOLD"] * 3
    release.set()
    assert done.wait(30)

    async def renewed() -> str:
        while (current := await credentials.current()).access_key == "AKIAOLD":
            await asyncio.sleep(0.01)
        return current.access_key

    assert event_loop.run(renewed(), timeout_s=30) == "AKIANEW"


def test_a_renewal_that_fails_is_not_tried_with_every_call() -> None:
    attempts: list[int] = []

    def fail() -> dict[str, str]:
        attempts.append(1)
        raise OSError("no metadata service")

    credentials = source(expiring(12, fail))
    for _ in range(20):
        assert event_loop.run(credentials.current()).access_key == "AKIAOLD"
    assert len(attempts) <= 1


def test_a_signing_key_is_derived_once_a_day() -> None:
    signing.signing_key.cache_clear()
    for minute in range(5):
        signature_headers(
            signing.EMULATOR_KEY,
            service="bedrock",
            region="us-east-1",
            method="POST",
            host="h",
            path="/",
            headers={},
            body=b"",
            at=NOW + timedelta(minutes=minute),
        )
    assert signing.signing_key.cache_info().misses == 1


def test_a_file_that_was_written_since_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    def write(key: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=s\n")
        draft.replace(file)

    monkeypatch.setattr(signing, "LOOK_EVERY_S", 0)
    write("AKIAOLD")
    credentials = Credentials(isolated=False, file=str(file))
    assert not credentials.are_outdated()  # nothing was read yet
    assert credentials.load().access_key == "AKIAOLD"
    assert not credentials.are_outdated()
    write("AKIANEW")
    assert credentials.are_outdated()
    assert credentials.load().access_key == "AKIAOLD"
    credentials.forget()
    assert credentials.load().access_key == "AKIANEW"
    assert not credentials.are_outdated()
    file.unlink()
    assert credentials.are_outdated()
    assert not Credentials(isolated=True).are_outdated()
