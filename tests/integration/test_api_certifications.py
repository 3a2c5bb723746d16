"""Where models stand, as a list for badges and as one certification with what proves it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from certification.api import representations
from certification.models import (
    AIModel,
    CertificationRun,
    ModelCertification,
    Region,
    RunJudgement,
    TestResult,
    User,
)
from certification.reasons import Reason, Status
from certification.suite.scoring import POLICY
from tests.api import Api
from tests.factories import certify, finish, start_job

pytestmark = pytest.mark.django_db

CLAUDE, NOVA = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lite-v1:0"
LIST = "certification-queue/certifications"
FIX = {"text": "Ask for access.", "who": "AWS account administrator"}


@pytest.fixture
def api(viewer: User, catalogue: None) -> Api:
    return Api(viewer)


def model(name: str = NOVA) -> AIModel:
    return AIModel.objects.get(api_model_id=name)


def row(region: str, name: str = NOVA) -> ModelCertification:
    return ModelCertification.objects.get(model__api_model_id=name, region=region)


@pytest.fixture
def certifications(api: Api) -> None:
    """Nova certified, refused and expired; Claude failed."""
    certify(
        model(),
        "us-east-1",
        results=[("G01", "passed", ""), ("G02", "flaky", ""), ("G03", "skipped", "")],
    )
    certify(
        model(),
        "us-west-2",
        Status.PERMISSION_REQUIRED,
        reason=Reason.MODEL_ACCESS_NOT_GRANTED,
        message="No access.",
        fix=FIX,
    )
    certify(model(), "eu-west-1")
    ModelCertification.objects.filter(region="eu-west-1").update(
        expires_at=timezone.now() - timedelta(days=2)
    )
    certify(
        model(CLAUDE),
        "us-east-1",
        Status.FAILED,
        score=31,
        rating="F",
        reason=Reason.GATE_FAILED,
        message="A gate failed.",
        results=[("G01", "passed", ""), ("G02", "failed", "Wrong answer.")],
    )


def listed(api: Api, query: str = "") -> list[tuple[str, str, str]]:
    entries = api.get(f"{LIST}?{query}")["certifications"]
    return [(entry["modelName"], entry["region"], entry["status"]) for entry in entries]


NOVA_EAST, NOVA_WEST = (
    ("Nova Lite", "us-east-1", "certified"),
    ("Nova Lite", "us-west-2", "permission_required"),
)
NOVA_EU = ("Nova Lite", "eu-west-1", "not_tested")
CLAUDE_EAST = ("Claude Haiku 4.5", "us-east-1", "failed")


def test_a_certification_has_every_field_that_the_frontends_read(
    api: Api, certifications: None
) -> None:
    [entry] = api.get(f"{LIST}?modelId={NOVA}&region=us-east-1")["certifications"]
    nova, stored = model(), row("us-east-1")
    run = stored.run
    assert run is not None
    assert {name: value for name, value in entry.items() if not name.endswith("At")} == {
        "id": str(stored.pk),
        "modelId": NOVA,
        "modelUuid": str(nova.pk),
        "modelName": "Nova Lite",
        "vendor": "Amazon",
        "providerId": "bedrock",
        "region": "us-east-1",
        "regionName": "US East (N. Virginia)",
        "offered": True,
        "status": "certified",
        "previousStatus": "not_tested",
        "passed": True,
        "score": 89,
        "rating": "B",
        "badge": "/badges/amazon.nova-lite-v1:0/us-east-1.svg",
        "successRate": 100.0,
        "testsPassed": 2,
        "testsFailed": 0,
        "attempts": 1,
        "avgLatencyMs": None,
        "ttftMs": None,
        "tokensPerSecond": None,
        "errorMessage": None,
        "errorCategory": None,
        "errorReason": None,
        "fix": None,
        "heldBack": None,
        "confirmAfter": None,
        "isExpired": False,
        "tier": "quick",
        "backend": "emulator",
        "endpoint": "bedrock-runtime",
        "api": "converse",
        "runId": str(run.pk),
        "jobId": str(run.job_id),
        "activeRun": None,
    }
    assert all(
        entry[name].endswith("Z")
        for name in ("certifiedAt", "expiresAt", "lastTestedAt", "createdAt", "updatedAt")
    )


def test_what_is_not_certified_has_a_reason_and_a_fix(api: Api, certifications: None) -> None:
    [entry] = api.get(f"{LIST}?modelId={NOVA}&region=us-west-2")["certifications"]
    assert (entry["passed"], entry["errorMessage"]) == (False, "No access.")
    assert (entry["errorCategory"], entry["errorReason"]) == (
        "MODEL_ACCESS",
        "model_access_not_granted",
    )
    assert entry["fix"] == {**FIX, "command": "", "url": "", "wait": ""}
    assert (entry["successRate"], entry["certifiedAt"]) == (0.0, None)


@pytest.mark.parametrize("reconciled", [False, True])
def test_an_expired_one_is_not_tested_and_keeps_what_it_was(
    api: Api, certifications: None, reconciled: bool
) -> None:
    if reconciled:
        assert ModelCertification.objects.all().expire() == 1
    [entry] = api.get(f"{LIST}?modelId={NOVA}&region=eu-west-1")["certifications"]
    assert (entry["status"], entry["isExpired"], entry["passed"]) == ("not_tested", True, False)
    assert (entry["previousStatus"], entry["score"], entry["rating"]) == ("certified", 89, "B")
    assert "expired" in entry["errorMessage"]


def test_with_a_model_its_untested_regions_are_listed_too(api: Api, certifications: None) -> None:
    data = api.get(f"{LIST}?modelId={model().pk}&limit=100&_t=1700000000&providerId=whatever")
    by_region = {entry["region"]: entry for entry in data["certifications"]}
    assert by_region.keys() == set(Region.objects.enabled().values_list("code", flat=True))
    assert data["pagination"]["total"] == len(by_region)
    blank = by_region["ap-southeast-1"]
    assert (blank["status"], blank["passed"], blank["lastTestedAt"], blank["runId"]) == (
        "not_tested",
        False,
        None,
        None,
    )
    assert blank["id"] == f"{model().pk}:ap-southeast-1"
    unoffered = [entry for entry in by_region.values() if not entry["offered"]]
    assert all(
        entry["status"] == "not_tested" and "not offered" in entry["errorMessage"]
        for entry in unoffered
    )
    assert all(entry["errorMessage"] for entry in by_region.values() if not entry["passed"])


def test_without_a_model_only_what_was_tested_is_listed(api: Api, certifications: None) -> None:
    assert listed(api) == [NOVA_EU, CLAUDE_EAST, NOVA_EAST, NOVA_WEST]


def test_certifications_are_filtered(api: Api, certifications: None) -> None:
    expected = {
        "status=CERTIFIED": [NOVA_EAST],
        "status=certified": [NOVA_EAST],
        "status=FAILED": [CLAUDE_EAST],
        "status=Permission_Required,failed": [NOVA_WEST, CLAUDE_EAST],
        "status=not_tested": [NOVA_EU],
        "status=COMPLETED": [NOVA_WEST, CLAUDE_EAST, NOVA_EAST],
        "status=pending": [],
        "status=PROCESSING": [],
        "status=cancelled": [],
        "rating=b": [NOVA_EU, NOVA_EAST],
        "rating=F,A": [CLAUDE_EAST],
        "vendor=anthropic": [CLAUDE_EAST],
        "vendor=nobody": [],
        "region=us-east-1": [NOVA_EAST, CLAUDE_EAST],
        f"modelId={NOVA}&status=CERTIFIED": [NOVA_EAST],
        f"modelId={NOVA}&rating=B": [NOVA_EU, NOVA_EAST],
        f"modelId={NOVA}&vendor=Anthropic": [],
        f"modelId={NOVA}&vendor=amazon&region=us-west-2": [NOVA_WEST],
        f"modelId={CLAUDE}&status=queued": [],
    }
    assert {query: listed(api, query) for query in expected} == expected


def test_states_of_runs_select_pairs_with_active_runs(api: Api, certifications: None) -> None:
    waiting, working = (
        start_job([model()], ["us-east-1"]).runs.get(),
        start_job([model(CLAUDE)], ["sa-east-1"]).runs.get(),
    )
    CertificationRun.objects.claim(working.pk, "a test")
    first_run = ("Claude Haiku 4.5", "sa-east-1", "not_tested")
    expected = {
        "status=QUEUED": [NOVA_EAST],
        "status=PROCESSING": [first_run],
        f"modelId={CLAUDE}&status=PROCESSING": [first_run],
        "status=failed,PROCESSING,QUEUED": [NOVA_EAST, CLAUDE_EAST, first_run],
        "status=PROCESSING&vendor=Amazon": [],
        "status=PROCESSING&region=us-east-1": [],
        "status=PROCESSING&rating=A": [],
    }
    assert {query: listed(api, query) for query in expected} == expected
    [entry] = api.get(f"{LIST}?status=QUEUED")["certifications"]
    assert entry["activeRun"] == {
        "id": str(waiting.pk),
        "jobId": str(waiting.job_id),
        "status": waiting.status,
    }


def test_pages_hold_each_pair_once_across_tested_and_untested(
    api: Api, certifications: None
) -> None:
    whole = listed(api, f"modelId={NOVA}&limit=100")
    pages = [
        listed(api, f"modelId={NOVA}&limit=2&page={page}") for page in range(1, len(whole) // 2 + 3)
    ]
    assert [entry for page in pages for entry in page] == whole
    assert pages[-1] == []
    assert whole[:3] == [NOVA_EU, NOVA_EAST, NOVA_WEST]


def test_a_later_judgement_gives_the_reason(api: Api, certifications: None) -> None:
    stored = row("us-east-1")
    assert stored.run is not None
    RunJudgement.objects.create(
        run=stored.run,
        policy_version="2",
        verdict=Status.QUALITY_WARNING,
        score=70,
        rating="C",
        reason=Reason.QUALITY_BELOW_LINE,
        message="Below the new line.",
    )
    ModelCertification.rejudge(stored.run, Status.QUALITY_WARNING, 70, "C")
    [entry] = api.get(f"{LIST}?modelId={NOVA}&region=us-east-1")["certifications"]
    assert (entry["errorMessage"], entry["errorReason"]) == (
        "Below the new line.",
        "quality_below_line",
    )
    assert entry["errorCategory"] == "QUALITY_ISSUE"


def test_a_certification_whose_run_was_deleted_has_a_message(
    api: Api, certifications: None
) -> None:
    ModelCertification.objects.filter(pk=row("us-west-2").pk).update(run=None)
    [entry] = api.get(f"{LIST}?modelId={NOVA}&region=us-west-2")["certifications"]
    assert (entry["passed"], entry["runId"]) == (False, None)
    assert "no longer stored" in entry["errorMessage"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("page=0", "query.page"),
        ("limit=1001", "query.limit"),
        ("limit=x", "query.limit"),
        ("status=DONE", "query.status"),
        ("rating=G", "query.rating"),
        ("rating=E", "query.rating"),
        ("region=mars-1", "query.region"),
        ("vendor=%00", "query.vendor"),
        ("modelId=a%00", "query.modelId"),
    ],
)
def test_a_bad_question_is_refused_with_its_path(api: Api, query: str, path: str) -> None:
    refusal = api.get(f"{LIST}?{query}", status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == [path]


def test_an_unknown_model_is_not_found(api: Api) -> None:
    assert (
        api.get(f"{LIST}?modelId=nobody.knows-this", status=404)["errorCode"] == "model_not_found"
    )


def trial(number: int, *, passed: bool, text: str) -> dict[str, Any]:
    """One trial as `evidence.trial` stores it."""
    cause = {
        "category": "SERVICE_ERROR",
        "reason": "model_error",
        "message": "Broken.",
        "code": "ModelErrorException",
        "http_status": 424,
        "operation": "Converse",
    }
    return {
        "trial": number,
        "variant": "a",
        "passed": passed,
        "valid": True,
        "sentence": "Seen.",
        "evidence": {"n": number},
        "lacks": "",
        "cause": None if passed else cause,
        "has_transcript": True,
        "calls": [{"request": text}],
    }


@pytest.fixture
def proved(api: Api) -> CertificationRun:
    """Nova certified in us-east-1 by a run with trials, after a run without a verdict."""
    certify(
        model(), "us-east-1", Status.PENDING, reason=Reason.THROTTLED_REQUESTS, message="Throttled."
    )
    run = start_job([model()], ["us-east-1"]).runs.get()
    run = finish(
        run,
        Status.CERTIFIED,
        score=89,
        rating="B",
        results=[("G01", "passed", "Answered."), ("GONE", "failed", "")],
    )
    TestResult.objects.filter(run=run, case_id="G01").update(
        trials=[trial(0, passed=True, text="short"), trial(1, passed=False, text="x" * 2000)]
    )
    return run


def test_one_certification_comes_with_its_run_results_and_history(
    api: Api, proved: CertificationRun
) -> None:
    data = api.get(f"{LIST}/{row('us-east-1').pk}")
    [entry] = api.get(f"{LIST}?modelId={NOVA}&region=us-east-1")["certifications"]
    assert {name: data[name] for name in entry} == entry
    assert (data["run"]["id"], data["run"]["calls"], data["run"]["unmet"]) == (
        str(proved.pk),
        12,
        [],
    )
    first, gone = data["results"]
    assert (first["caseId"], first["verdict"], first["sentence"]) == ("G01", "passed", "Answered.")
    assert first["title"]
    assert gone["title"] == ""
    assert [run["verdict"] for run in data["history"]] == ["certified", "pending"]
    assert data["history"][1]["errorMessage"] == "Throttled."
    assert data["pagination"] == {"page": 1, "limit": 20, "total": 2, "totalPages": 1}


def test_history_has_pages_and_starts_with_what_runs_now(
    api: Api, proved: CertificationRun
) -> None:
    active = start_job([model()], ["us-east-1"]).runs.get()
    run_ids = [
        api.get(f"{LIST}/{NOVA}:us-east-1?limit=1&page={page}")["history"][0]["id"]
        for page in (1, 2)
    ]
    assert run_ids == [str(active.pk), str(proved.pk)]


def test_trials_have_transcripts_only_on_request(api: Api, proved: CertificationRun) -> None:
    good, bad = api.get(f"{LIST}/{NOVA}:us-east-1")["results"][0]["trials"]
    assert (good["passed"], good["evidence"], good["hasTranscript"], good["calls"]) == (
        True,
        {"n": 0},
        True,
        None,
    )
    assert (good["lacks"], good["cause"]) == (None, None)
    assert (bad["cause"]["reason"], bad["cause"]["httpStatus"]) == ("model_error", 424)
    good, bad = api.get(f"{LIST}/{NOVA}:us-east-1?transcripts=true")["results"][0]["trials"]
    assert (good["calls"], bad["calls"]) == ([{"request": "short"}], [{"request": "x" * 2000}])


def test_transcripts_beyond_what_an_answer_holds_are_left_out(
    api: Api, proved: CertificationRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(representations, "MAX_TRANSCRIPTS", 2030)
    good, bad = api.get(f"{LIST}/{NOVA}:us-east-1?transcripts=true")["results"][0]["trials"]
    assert (good["calls"], good["hasTranscript"]) == (None, True)
    assert bad["calls"]


def test_a_pair_that_was_never_tested_has_an_address_too(api: Api) -> None:
    data = api.get(f"{LIST}/{model().pk}:us-west-2")
    assert (data["id"], data["status"]) == (f"{model().pk}:us-west-2", "not_tested")
    assert (data["run"], data["results"], data["history"]) == (None, [], [])


def test_a_held_back_warning_is_shown(api: Api, proved: CertificationRun) -> None:
    later = timezone.now() + timedelta(hours=1)
    ModelCertification.objects.filter(run=proved).update(
        held_back="One run may be luck.", confirm_after=later
    )
    data = api.get(f"{LIST}/{NOVA}:us-east-1")
    assert (data["status"], data["heldBack"]) == ("certified", "One run may be luck.")
    assert data["confirmAfter"].endswith("Z")


@pytest.mark.parametrize(
    "name", ["0", "9" * 30, "nobody:us-east-1", f"{NOVA}:mars-1", NOVA, "a%00:us-east-1", "-1", ":"]
)
def test_an_unknown_certification_is_not_found(api: Api, name: str) -> None:
    assert api.get(f"{LIST}/{name}", status=404)["errorCode"] == "certification_not_found"


@pytest.mark.parametrize(
    "name", ["not-a-uuid", "a%00b", "b249c4ee-800e-4763-9ccf-823233709f43", "%20"]
)
def test_what_is_no_id_of_a_certification_is_a_bad_request(api: Api, name: str) -> None:
    refusal = api.get(f"{LIST}/{name}", status=400)
    assert [entry["path"] for entry in refusal["data"]["validation"]] == ["path.certificationId"]


def test_bad_options_of_one_certification_are_refused(api: Api) -> None:
    refusal = api.get(f"{LIST}/{NOVA}:us-east-1?transcripts=perhaps&page=0", status=400)
    assert sorted(entry["path"] for entry in refusal["data"]["validation"]) == [
        "query.page",
        "query.transcripts",
    ]


def test_one_certification_costs_few_queries(
    api: Api, proved: CertificationRun, django_assert_num_queries: Any
) -> None:
    path = f"{LIST}/{row('us-east-1').pk}"
    # user, certification, cases passed, run, results, history and its length
    with django_assert_num_queries(7):
        api.get(path)


@pytest.mark.parametrize("path", [LIST, f"{LIST}/{NOVA}:us-east-1"])
def test_reading_requires_a_login_with_a_role_and_get(
    operator: User, catalogue: None, path: str
) -> None:
    Api().get(path, status=401)
    Api(User.objects.create_user("nobody@example.org", "a-long-test-password")).get(
        path, status=403
    )
    Api(operator).get(path)
    Api(operator).post(path, {}, status=405)


def test_a_page_of_certifications_costs_few_queries(
    api: Api, certifications: None, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(4):  # user, how many, certifications, cases passed
        api.get(LIST)
    with django_assert_num_queries(7):  # and the model, and the regions where it was never tested
        api.get(f"{LIST}?modelId={NOVA}&limit=100")


def test_the_newest_certification_of_each_model_comes_first(
    api: Api, certifications: None, django_assert_num_queries: Any
) -> None:
    """A page that is shorter than the list leaves no model out."""
    pages = [listed(api, f"limit=2&page={page}") for page in (1, 2)]
    assert pages == [[NOVA_EU, CLAUDE_EAST], [NOVA_EAST, NOVA_WEST]]
    assert listed(api, "status=certified,permission_required")[0] == NOVA_WEST
    with django_assert_num_queries(4):
        api.get(f"{LIST}?limit=1000")


def test_the_api_offers_exactly_the_ratings_that_the_policy_gives() -> None:
    assert [letter for _floor, letter in POLICY.ratings] == list(representations.RATINGS)
