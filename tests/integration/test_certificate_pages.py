"""What a stranger sees of certificates, and how an administrator withdraws one."""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from certification.certificates import document
from certification.lib import request_rates
from certification.models import AIModel, Certificate, CertificateDocument, User
from tests.integration.test_certificates import NOVA, folder, issue  # noqa: F401 - a fixture
from tests.paths import PROJECT

pytestmark = pytest.mark.django_db

HOSTILE = [
    '<script>alert(1)</script><img src=x onerror="a()">',
    "#eval(\"1\") $x$ *b* @a <l> `r` // /* \\u{0} #import \"a\"",
    "\u202eabc\u2066\u200b\x1b[31mred\x07",
    "模型 😀 مرحبا " + "W" * 150,
]  # fmt: skip


def text_of(answer: Any) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))


def upload(client: Client, file: bytes, name: str = "certificate.json") -> Any:
    return client.post("/verify/", {"file": SimpleUploadedFile(name, file)})


class TestCertificate:
    def test_a_stranger_sees_it_in_one_query(
        self, client: Client, django_assert_num_queries: Any
    ) -> None:
        certificate = issue()
        with django_assert_num_queries(1):
            answer = client.get(f"/certificates/{certificate.code}/")
        text = text_of(answer)
        for expected in ("In force until", NOVA, "us-east-1", "92 / 100", certificate.digest):
            assert expected in text
        assert "data:image/svg+xml" in answer.content.decode()
        assert not answer.cookies

    def test_it_never_says_certified_without_emulated(self, client: Client) -> None:
        code = issue().code
        for address in (f"/certificates/{code}/", f"/verify/?code={code}"):
            text = text_of(client.get(address))
            assert "EMULATED" in text
            assert text.count("ertified") == text.count("EMULATED: certified")

    def test_a_code_as_it_was_typed_leads_to_the_certificate(self, client: Client) -> None:
        code = issue().code
        answer = client.get(f"/certificates/{code.lower().replace('-', '')}/")
        assert (answer.status_code, answer["Location"]) == (301, f"/certificates/{code}/")

    def test_no_other_code_is_ever_named(self, client: Client) -> None:
        certificate = issue()
        for code in ("7K3M-9QXP-2D4T", "0000-0000-0000", "x" * 500, "%00", "%F0%9F%92%A5"):
            for ending in ("/", ".json", ".pdf"):
                answer = client.get(f"/certificates/{code}{ending}")
                assert answer.status_code == 404
                assert certificate.code not in answer.content.decode()

    def test_the_language_is_in_the_address(self, client: Client) -> None:
        address = f"/certificates/{issue().code}/"
        answer = client.get(f"{address}?lang=pt-br")
        assert answer["Content-Language"] == "pt-br"
        assert '<html lang="pt-br">' in answer.content.decode()
        assert '<html lang="en">' in client.get(f"{address}?lang=xx").content.decode()

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_name_is_text_on_the_page_and_in_the_pdf(self, client: Client, name: str) -> None:
        AIModel.objects.filter(api_model_id=NOVA).update(name=name)
        code = issue().code
        for address in (
            f"/certificates/{code}/",
            f"/verify/?code={code}",
            f"/m/{NOVA}/",
            "/badges/",
        ):
            page = client.get(address).content.decode()
            assert "<script>alert" not in page
            assert 'onerror="a' not in page
            assert not set(page) & set("\u202e\u2066\u200b\x1b\x07")
        pdf = client.get(f"/certificates/{code}.pdf")
        assert pdf.status_code == 200
        assert pdf.content.startswith(b"%PDF-1.7")
        for file in (pdf.content, client.get(f"/certificates/{code}.json").content):
            assert "Genuine" in text_of(upload(client, file))

    def test_operators_find_it_from_the_certification(
        self, as_viewer: Client, as_operator: Client
    ) -> None:
        code = issue().code
        page = as_viewer.get(f"/certifications/{NOVA}/us-east-1/").content.decode()
        assert f'href="/certificates/{code}/"' in page
        assert "/badges/?model=" in page
        assert "Renew" not in text_of(as_viewer.get(f"/certificates/{code}/"))
        text = text_of(as_operator.get(f"/certificates/{code}/"))
        assert "Renew" in text
        assert "Withdraw" not in text


class TestPdf:
    def test_it_is_made_once_in_each_language_with_the_json_inside(self, client: Client) -> None:
        certificate = issue()
        address = f"/certificates/{certificate.code}.pdf"
        english = client.get(address).content
        assert client.get(address).content == english
        assert client.get(f"{address}?lang=pt-br").content != english
        stored = CertificateDocument.objects.get(certificate=certificate, language="en")
        assert stored.digest == hashlib.sha256(english).hexdigest()
        assert CertificateDocument.objects.count() == 2
        for mark in (b"pdfaid:part", b"pdfuaid:part", b"/AFRelationship", b"/StructTreeRoot"):
            assert mark in english
        assert f"certificate-{certificate.code}.json".encode() in english

    def test_of_two_requests_at_once_the_first_makes_it(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate = issue()
        make = document.make

        def slowly(*args: Any) -> bytes:
            CertificateDocument.objects.create(
                certificate=certificate, language="en", pdf=b"%PDF-first", digest="0" * 64
            )
            return make(*args)

        monkeypatch.setattr(document, "make", slowly)
        assert client.get(f"/certificates/{certificate.code}.pdf").content == b"%PDF-first"

    def test_a_byte_more_or_less_is_another_file(self, client: Client) -> None:
        pdf = client.get(f"/certificates/{issue().code}.pdf").content
        for file in (pdf[:-1], pdf + b"\n", pdf[:500] + bytes([pdf[500] ^ 1]) + pdf[501:]):
            assert "Not a file of ours, or printed again" in text_of(upload(client, file, "a.pdf"))


class TestVerify:
    def test_the_page_shows_the_newest_hash(
        self, client: Client, django_assert_num_queries: Any
    ) -> None:
        assert "No certificate was issued yet" in text_of(client.get("/verify/"))
        certificate = issue()
        with django_assert_num_queries(1):
            text = text_of(client.get("/verify/"))
        assert certificate.digest in text
        assert "http://localhost:3001/verify/" in text

    def test_a_code_is_answered_and_counted(
        self, client: Client, django_assert_num_queries: Any
    ) -> None:
        certificate = issue()
        # the certificate with its results, the count
        with django_assert_num_queries(2):
            text = text_of(client.get(f"/verify/?code={certificate.code.lower()}"))
        assert "Genuine, and in force" in text
        certificate.refresh_from_db()
        assert certificate.lookups == 1

    @pytest.mark.parametrize(
        ("typed", "sentence"),
        [("7K3M-9QXP-2D4T", "typing error"), ("0" * 12, "No certificate has this code"),
         ("<script>", "typing error"), ("%00", "typing error"), ("a" * 9999, "typing error")],
    )  # fmt: skip
    def test_any_other_code_has_an_answer(self, client: Client, typed: str, sentence: str) -> None:
        assert sentence in text_of(client.get(f"/verify/?code={typed}"))

    def test_an_altered_file_is_told_and_nothing_else_about_it(self, client: Client) -> None:
        file = issue().envelope
        middle = len(file) // 2
        other = b"A" if file[middle : middle + 1] != b"A" else b"B"
        text = text_of(upload(client, file[:middle] + other + file[middle + 1 :]))
        assert "Altered" in text
        assert NOVA not in text

    @pytest.mark.parametrize(
        "file", [b"{}", b"\0" * 10, b"[" * 99_999, b"%PDF-", "é".encode("latin-1")]
    )
    def test_a_file_that_is_not_ours_is_told(self, client: Client, file: bytes) -> None:
        assert "Not a file of ours" in text_of(upload(client, file))

    def test_a_file_that_is_too_large_is_not_read(self, client: Client) -> None:
        assert upload(client, b" " * 1_000_001).status_code == 413
        answer = upload(client, b" " * 1_100_000)
        assert answer.status_code == 413
        assert "larger than 1 MB" in text_of(answer)
        assert "No file was chosen" in text_of(client.post("/verify/"))

    def test_one_address_may_ask_so_often_a_minute(
        self, client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.VERIFICATIONS_PER_MINUTE = 2
        monkeypatch.setattr(request_rates, "count_request", lambda *_: 3)
        answer = client.get("/verify/?code=x")
        assert (answer.status_code, "Wait a minute" in text_of(answer)) == (429, True)
        assert 0 < int(answer["Retry-After"]) <= 62
        assert client.post("/verify/").status_code == 429
        assert client.get("/verify/").status_code == 200

    def test_the_downloaded_file_and_keys_are_enough_without_us(
        self, client: Client, tmp_path: Path, capsys: Any
    ) -> None:
        code = issue().code
        file, key = tmp_path / "c.json", tmp_path / "keys.pem"
        file.write_bytes(client.get(f"/certificates/{code}.json").content)
        key.write_bytes(client.get("/certificates/keys.pem").content)
        call_command("verify_certificate", str(file), key=[str(key)], json=True)
        printed = json.loads(capsys.readouterr().out)
        assert (printed["answer"], printed["isExpired"]) == ("genuine", False)
        call_command("verify_certificate", chain=True)
        assert "The chain is whole." in capsys.readouterr().out

    def test_the_program_of_the_documentation_checks_it_without_ours(
        self, client: Client, tmp_path: Path
    ) -> None:
        code = issue().code
        page = (PROJECT / "docs" / "certificates.md").read_text(encoding="utf-8")
        program = page.split("```python\n")[1].split("```")[0]
        (tmp_path / "keys.pem").write_bytes(client.get("/certificates/keys.pem").content)
        for file in (bytes(Certificate.objects.get(code=code).envelope), b"{}"):
            (tmp_path / "certificate.json").write_bytes(file)
            done = subprocess.run(
                [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert (done.stdout == "EMULATED: certified\n") is (file != b"{}"), done.stderr


class TestWithdrawal:
    def test_an_administrator_withdraws_with_a_reason(
        self, as_administrator: Client, client: Client
    ) -> None:
        certificate = issue()
        address = f"/certificates/{certificate.code}/withdraw/"
        assert "cannot be undone" in text_of(as_administrator.get(address))
        answer = as_administrator.post(address, {"reason": " "})
        assert answer.status_code == 400
        assert "Write the reason." in text_of(answer)
        answer = as_administrator.post(address, {"reason": "Wrong <b>account</b>."})
        assert answer["Location"] == f"/certificates/{certificate.code}/"
        text = text_of(client.get(answer["Location"]))
        assert "Withdrawn" in text
        assert "Wrong <b>account</b>." in text
        again = as_administrator.post(address, {"reason": "Other."}, follow=True)
        assert "Other." not in text_of(again)
        file = bytes(Certificate.objects.get().envelope)
        assert "Genuine, but no longer in force" in text_of(upload(client, file))

    def test_nobody_else_may(self, as_operator: Client, as_viewer: Client) -> None:
        address = f"/certificates/{issue().code}/withdraw/"
        for person in (as_operator, as_viewer):
            assert person.get(address).status_code == 403
            assert person.post(address, {"reason": "x"}).status_code == 403
        assert Certificate.objects.get().withdrawn_at is None

    def test_it_outlives_who_withdrew_it(self, administrator: User) -> None:
        certificate = issue()
        certificate.withdraw(administrator, "x")
        administrator.delete()
        certificate.refresh_from_db()
        assert certificate.withdrawn_by is None
