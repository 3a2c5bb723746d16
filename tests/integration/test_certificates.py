"""Certificates from the run that certifies to the answer that one is genuine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from certification import tasks
from certification.certificates import envelopes, keys, verification
from certification.certificates.verification import Answer, Checks
from certification.engine import certificates, dispatch, queue, reconcile
from certification.inference import RouteTarget
from certification.lib import clock
from certification.models import (
    AIModel,
    Certificate,
    CertificateKey,
    CertificateState,
    CertificationJob,
    ModelCertification,
    Region,
    TestResult,
    User,
)
from certification.models.routines import NEVER
from certification.reasons import Status
from tests.factories import certify
from tests.unit.test_certificates import OTHER

pytestmark = pytest.mark.django_db
NOVA = "amazon.nova-lite-v1:0"
RESULTS = [("G01", "passed", "It answered."), ("G02", "flaky", "On the second try.")]


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Iterator[Path]:
    settings.CERTIFICATE_FOLDER = tmp_path / "certificates"
    return settings.CERTIFICATE_FOLDER


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Set the clock forward."""
    now = clock.now

    def forward(by: timedelta) -> None:
        monkeypatch.setattr(clock, "now", lambda: now() + by)

    return forward


def issue(model: str = NOVA, region: str = "us-east-1", **outcome: Any) -> Certificate:
    """A full run that certifies, and its certificate."""
    outcome = {"score": 92, "rating": "A", "results": RESULTS, **outcome}
    run = certify(AIModel.objects.get(api_model_id=model), region, tier="full", **outcome)
    assert certificates.issue_due() == 1
    return Certificate.objects.with_status().get(run=run)


def state_of(certificate: Certificate, **later: float) -> str:
    row = Certificate.objects.with_status().get(pk=certificate.pk)
    return row.status_at(timezone.now() + timedelta(**later)).state


class TestIssue:
    def test_a_full_run_that_certifies_gets_one(self) -> None:
        certificate = issue()
        envelope = envelopes.decode(bytes(certificate.envelope))
        statement = json.loads(envelope.payload)
        predicate = statement["predicate"]
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["subject"] == [
            {"name": f"{NOVA}@us-east-1", "digest": {"sha256": predicate["evidence"]["sha256"]}}
        ]
        assert predicate["verdict"] == "EMULATED: certified"
        assert predicate["score"]["total"] == 92
        assert predicate["cases"]["byCategory"] == [
            {"category": "contract", "passed": 2, "total": 2, "skipped": 0}
        ]
        assert certificate.digest == hashlib.sha256(envelope.payload).hexdigest()
        assert (certificate.number, certificate.previous) == (1, None)
        assert certificate.status_at(timezone.now()).state == CertificateState.IN_FORCE

    def test_it_names_only_what_cases_showed_to_work(self) -> None:
        results = [("V1", "passed", ""), ("T1", "skipped", ""), ("G01", "passed", "")]
        predicate = json.loads(envelopes.decode(bytes(issue(results=results).envelope)).payload)
        assert predicate["predicate"]["capabilities"] == {"works": ["vision"], "lacks": []}

    def test_no_statement_says_certified_without_emulated(self) -> None:
        words = json.dumps(json.loads(envelopes.decode(bytes(issue().envelope)).payload)).lower()
        assert words.count("certified") == words.count("emulated: certified") == 1

    @pytest.mark.parametrize(
        ("tier", "verdict"),
        [("quick", Status.CERTIFIED), ("full", Status.QUALITY_WARNING), ("full", Status.FAILED)],
    )
    def test_nothing_less_gets_one(self, tier: str, verdict: str) -> None:
        certify(AIModel.objects.get(api_model_id=NOVA), "us-east-1", verdict, tier=tier)
        assert certificates.issue_due() == 0

    def test_nothing_is_lost_while_the_key_cannot_be_used(self, folder: Path, caplog: Any) -> None:
        certify(AIModel.objects.get(api_model_id=NOVA), "us-east-1", tier="full")
        folder.parent.joinpath("certificates").write_text("no folder")
        assert certificates.issue_due() == 0
        folder.unlink()
        assert reconcile.reconcile().issued == 1
        assert certificates.issue_due() == 0

    def test_what_a_sweep_brings_is_issued_batch_by_batch(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(certificates, "BATCH", 1)
        for region in ("us-east-1", "us-west-2", "sa-east-1"):
            certify(AIModel.objects.get(api_model_id=NOVA), region, tier="full")
        assert certificates.issue_due() == 3
        assert certificates.issue_due() == 0

    def test_regions_that_may_be_judged_again_wait_for_the_comparison(self) -> None:
        run = certify(AIModel.objects.get(api_model_id=NOVA), "us-east-1", tier="full")
        jobs = CertificationJob.objects.filter(pk=run.job_id)
        jobs.update(regions=["us-east-1", "us-west-2"])
        assert certificates.issue_due() == 0
        jobs.update(config={"comparison": {}})
        assert certificates.issue_due() == 1

    def test_each_holds_the_hash_of_the_one_before_whatever_key_signs(self) -> None:
        first = issue()
        keys.rotate()
        second = issue(region="us-west-2")
        assert (second.number, second.previous_id) == (2, first.digest)
        predicate = json.loads(envelopes.decode(bytes(second.envelope)).payload)["predicate"]
        assert predicate["previous"] == {"sha256": first.digest}
        assert CertificateKey.objects.count() == 2
        for certificate in (first, second):
            file = bytes(certificate.envelope)
            assert verification.verify_file(file, timezone.now()).answer == Answer.GENUINE

    def test_the_command_lists_the_keys_and_begins_a_new_one(self, capsys: Any) -> None:
        first = issue().key_id
        call_command("certificate_key", rotate=True, json=True)
        printed = json.loads(capsys.readouterr().out)
        assert [row["keyId"] for row in printed["keys"]] == [first]
        assert printed["current"] not in ("", first)

    def test_account_ids_and_people_are_not_in_it(self, operator: User) -> None:
        model = AIModel.objects.get(api_model_id=NOVA)
        arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova"
        certificate = issue(by=RouteTarget(arn, "INFERENCE_PROFILE"))
        payload = envelopes.decode(bytes(certificate.envelope)).payload.decode()
        assert "123456789012" not in payload
        assert "in_geography" in payload
        assert model.name in payload


class TestDatabase:
    @pytest.mark.parametrize(
        "change",
        [
            lambda rows: rows.update(envelope=b"x"),
            lambda rows: rows.update(expires_at=timezone.now()),
            lambda rows: rows.update(code="AAAA-AAAA-AAAA"),
            lambda rows: rows._raw_delete("default"),
            lambda _rows: CertificateKey.objects.update(public_key="x"),
            lambda _rows: CertificateKey.objects.all()._raw_delete("default"),
        ],
    )
    def test_what_was_issued_never_changes(self, change: Callable[[Any], Any]) -> None:
        issue()
        with (
            pytest.raises(DatabaseError, match="cannot be changed or deleted"),
            transaction.atomic(),
        ):
            change(Certificate.objects.all())

    def test_a_run_with_a_certificate_cannot_vanish(self) -> None:
        certificate = issue()
        with pytest.raises(ProtectedError):
            certificate.run.job.delete()

    def test_the_chain_cannot_fork_and_begins_once(self) -> None:
        certificate = issue()
        values = {
            name: getattr(certificate, name)
            for name in ("model", "region", "key", "issued_at", "expires_at", "envelope")
        }
        others = iter(("us-west-2", "sa-east-1", "eu-west-1"))
        for number, previous in ((2, None), (2, certificate), (3, certificate)):
            run = certify(certificate.model, next(others), tier="full")
            row = Certificate(
                number=number, previous=previous, run=run, code=f"C{number}{previous}"[:14],
                digest=f"{number}{previous}"[:64], **values,
            )  # fmt: skip
            if (number, previous) == (2, certificate):
                row.save(force_insert=True)
                continue
            with pytest.raises(IntegrityError), transaction.atomic():
                row.save(force_insert=True)


class TestStatus:
    def test_it_expires_and_still_verifies(self) -> None:
        certificate = issue()
        assert state_of(certificate, days=31) == CertificateState.EXPIRED
        ModelCertification.objects.update(expires_at=timezone.now())
        ModelCertification.objects.expire()
        later = timezone.now() + timedelta(days=31)
        result = verification.verify_file(bytes(certificate.envelope), later)
        assert result.answer == Answer.GENUINE
        assert result.status is not None
        assert result.status.state == CertificateState.EXPIRED

    def test_the_next_one_of_the_pair_replaces_it(self) -> None:
        first, second = issue(), issue()
        row = Certificate.objects.with_status().get(pk=first.pk)
        status = row.status_at(timezone.now())
        assert (status.state, status.successor) == (CertificateState.REPLACED, second.code)
        assert state_of(second) == CertificateState.IN_FORCE
        issue(region="us-west-2")
        assert state_of(second) == CertificateState.IN_FORCE

    def test_a_later_verdict_that_is_worse_ends_it(self) -> None:
        certificate = issue()
        certify(certificate.model, "us-east-1", Status.FAILED, tier="quick")
        assert state_of(certificate) == CertificateState.REPLACED

    def test_a_later_judgement_of_its_run_ends_it(self) -> None:
        certificate = issue()
        ModelCertification.rejudge(certificate.run, Status.QUALITY_WARNING, 70, "C")
        assert state_of(certificate) == CertificateState.REPLACED

    def test_it_is_withdrawn_once_and_for_good(self, administrator: User) -> None:
        certificate = issue()
        with pytest.raises(ValueError, match="reason"):
            certificate.withdraw(administrator, " ")
        assert certificate.withdraw(administrator, "The wrong account was tested.")
        assert not certificate.withdraw(administrator, "Again.")
        assert state_of(certificate) == CertificateState.WITHDRAWN
        with pytest.raises(DatabaseError), transaction.atomic():
            Certificate.objects.update(withdrawn_at=None, withdrawal_reason="")

    def test_its_end_is_announced_once(self, shift: Callable[[timedelta], None]) -> None:
        certificate = issue()
        issue(region="us-west-2").withdraw(None, "x")
        assert certificates.remind() == 0
        shift(timedelta(days=17))
        assert certificates.remind() == 1
        assert certificates.remind() == 0
        certificate.refresh_from_db()
        assert certificate.reminded_at is not None


class TestVerification:
    def test_a_stored_one_that_somebody_changed_is_altered(self) -> None:
        certificate = issue()
        without_guards(
            "UPDATE certification_testresult SET sentence = 'Better.' WHERE case_id = 'G01'"
        )
        result = verification.verify_code(certificate.code, timezone.now())
        assert result.answer == Answer.ALTERED
        assert result.checks == Checks(signature=True, chain=True, evidence=False)

    def test_what_cleanup_removes_changes_no_answer(self) -> None:
        trial = {
            "trial": 0, "passed": True, "valid": True, "sentence": "", "has_transcript": True,
            "evidence": {"ms": 1e22}, "calls": [{"request": {}}],
        }  # fmt: skip
        certificate = issue(trials={"G01": [trial]})
        assert TestResult.objects.drop_transcripts(NEVER, timezone.now() + timedelta(days=1)) == 1
        result = verification.verify_code(certificate.code, timezone.now())
        assert result.answer == Answer.GENUINE

    def test_a_signature_of_ours_that_was_never_issued_is_told(self) -> None:
        certificate = issue()
        statement = json.loads(envelopes.decode(bytes(certificate.envelope)).payload)
        statement["predicate"]["score"]["total"] = 100
        forged = envelopes.sign(envelopes.canonical_json(statement), keys.signing_key())
        answer = verification.verify_file(forged.encode(), timezone.now()).answer
        assert answer == Answer.NOT_IN_CHAIN

    def test_our_code_under_a_foreign_key_is_altered(self) -> None:
        payload = envelopes.decode(bytes(issue().envelope)).payload
        file = envelopes.sign(payload, OTHER).encode()
        assert verification.verify_file(file, timezone.now()).answer == Answer.ALTERED

    def test_the_chain_tells_of_gaps_and_changes(self) -> None:
        for region in ("us-east-1", "us-west-2", "sa-east-1", "eu-west-1"):
            issue(region=region)
        assert list(verification.chain_faults()) == []
        without_guards("DELETE FROM certification_certificate WHERE number IN (2, 3)")
        [gap] = verification.chain_faults()
        assert (gap.number, gap.sentence) == (4, "Before it, number 2-3 is missing.")
        without_guards("UPDATE certification_certificate SET number = 2 WHERE number = 4")
        sentences = [fault.sentence for fault in verification.chain_faults()]
        assert sentences == [
            "It does not follow the one before it.",
            "Its statement names another place in the chain.",
        ]


def without_guards(statement: str) -> None:
    """Do what only the owner of the tables can do, after switching off what guards them."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = confrelid "
            "AND conrelid = 'certification_certificate'::regclass"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'ALTER TABLE certification_certificate DROP CONSTRAINT "{name}"')
        for table in ("certificate", "testresult"):
            cursor.execute(f"ALTER TABLE certification_{table} DISABLE TRIGGER USER")
        cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_the_worker_that_closes_a_job_issues(
    catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    pairs = dispatch.pairs_of(dispatch.find_models([NOVA]), dispatch.find_regions(["us-east-1"]))
    run = dispatch.certify(pairs, dispatch.CertifyOptions(tier="full", seed=2)).job.runs.get()
    tasks.certify_run(str(run.pk))
    certificate = Certificate.objects.get(run=run)
    result = verification.verify_file(bytes(certificate.envelope), timezone.now())
    assert result.answer == Answer.GENUINE
    assert result.predicate["cases"]["total"] > 35
    assert {"tools", "system"} <= set(result.predicate["capabilities"]["works"])


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_issue_at_once_add_to_one_chain(monkeypatch: Any) -> None:
    model = AIModel.objects.get(api_model_id=NOVA)
    regions = list(Region.objects.filter(routes__model=model).distinct()[:4])
    for region in regions:
        certify(model, region.code, tier="full", results=RESULTS)
    pairs = list(certificates.due_pairs())
    key = keys.signing_key()
    barrier, issued = threading.Barrier(2), []

    def work() -> None:
        try:
            barrier.wait(10)
            issued.extend(c for pair in pairs if (c := certificates.issue(pair, key)))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(c.number for c in issued) == list(range(1, len(pairs) + 1))
    assert list(verification.chain_faults()) == []
