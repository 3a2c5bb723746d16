"""What one run observes of a model's parameters, later runs need not probe again: in the engine,
against the emulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from certification.engine import dispatch, queue, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import get_worker
from certification.inference import Failure
from certification.models import AIModel, CertificationRun, ParameterSupport
from certification.reasons import Reason, Status
from certification.suite import registry
from certification.suite.case import ProbeCache, Ref, execute
from tests.emulators import Probe
from tests.unit.test_suite_full import expected, model

LLAMA = "meta.llama3-3-70b-instruct-v1:0"  # takes no forced tool, no structured output
OPUS = "anthropic.claude-opus-4-7"  # takes no temperature, and thinks adaptively only
NOVA = "amazon.nova-lite-v1:0"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bedrock(
    transactional_db: None, emulator: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Probe]:
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    probe = Probe(emulator)
    yield probe
    probe.page("/_emulator/scenario", b'{"name": "healthy"}')
    get_worker().bedrock.close()


def certify(
    model_id: str = LLAMA, region: str = "us-east-1", tier: str = "full"
) -> CertificationRun:
    pairs = dispatch.pairs_of(dispatch.find_models([model_id]), dispatch.find_regions([region]))
    run = dispatch.certify(pairs, CertifyOptions(tier=tier, seed=7)).job.runs.get()
    assert runner.run(run.pk, get_worker())
    return CertificationRun.objects.select_related("model").get(pk=run.pk)


def refused(run: CertificationRun, case_id: str) -> int:
    """How many calls of a case the service refused."""
    trials = run.results.get(case_id=case_id).trials
    return sum("failure" in call for trial in trials for call in trial["calls"])


def skipped_probes(run: CertificationRun, case_id: str) -> list[list[str]]:
    return [trial.get("spared", []) for trial in run.results.get(case_id=case_id).trials]


def known() -> dict[tuple[str, str], bool]:
    return {(a.operation, a.feature): a.accepted for a in ParameterSupport.objects.all()}


def test_a_second_run_skips_the_refused_forms_and_judges_the_same(
    bedrock: Probe,
) -> None:
    first = certify()
    assert refused(first, "G11") == 1
    assert refused(first, "J2") == 10  # five trials: the structured form, then the forced tool
    second = certify()
    assert (refused(second, "G11"), refused(second, "J2")) == (0, 0)
    assert skipped_probes(second, "G11") == [["Converse tool_choice"]]
    assert (
        skipped_probes(second, "J2") == [["Converse structured_output", "Converse tool_choice"]] * 5
    )
    assert second.calls == first.calls - 11
    for name in ("verdict", "rating", "quality", "contract"):
        assert getattr(second, name) == getattr(first, name)
    assert second.environment["lacks"] == first.environment["lacks"]


def test_observed_support_counts_in_other_regions_and_in_the_quick_tier(
    bedrock: Probe,
) -> None:
    certify()
    assert refused(certify(region="us-west-2"), "J2") == 0
    assert refused(certify(tier="quick"), "G11") == 0


def test_a_remembered_refusal_is_not_counted_as_observed_again(bedrock: Probe) -> None:
    certify()
    before = ParameterSupport.objects.get(feature="structured_output").seen_at
    certify()
    assert ParameterSupport.objects.get(feature="structured_output").seen_at == before


def test_a_refusal_is_probed_again_after_some_days(bedrock: Probe) -> None:
    certify()
    ParameterSupport.objects.update(
        seen_at=timezone.now() - ParameterSupport.REFUSAL_TTL - timedelta(hours=1)
    )
    again = certify()
    assert refused(again, "J2") == 10
    assert ParameterSupport.objects.get(
        feature="structured_output"
    ).seen_at > timezone.now() - timedelta(hours=1)


def test_an_accepted_parameter_is_recorded(bedrock: Probe) -> None:
    certify(NOVA)
    assert known()["Converse", "temperature"] is True
    assert known()["Converse", "tool_choice"] is True
    assert skipped_probes(certify(NOVA), "D1") == [[]] * 5


def test_the_newest_claude_gets_the_adaptive_form_at_once(bedrock: Probe) -> None:
    first = certify(OPUS)
    assert (refused(first, "R3"), refused(first, "D1")) == (3, 5)
    assert first.results.get(case_id="R3").verdict == "passed"
    assert known()["Converse", "thinking_budget"] is False
    assert known()["Converse", "thinking_effort"] is True
    assert known()["Converse", "temperature"] is False
    second = certify(OPUS)
    assert (refused(second, "R3"), refused(second, "D1")) == (0, 0)
    assert second.results.get(case_id="R3").verdict == "passed"
    [first_call, _second] = second.results.get(case_id="R3").trials[0]["calls"]
    assert first_call["request"]["thinking_effort"] == "high"


def remember(feature: str, message: str) -> None:
    """A refusal that the emulator would never give."""
    nova = AIModel.objects.get(api_model_id=NOVA)
    refusal = {
        "reason": Reason.MALFORMED_REQUEST,
        "message": message,
        "code": "ValidationException",
        "http_status": 400,
    }
    region = dispatch.find_regions(["us-east-1"])[0]
    ParameterSupport.record(
        nova.pk,
        region.pk,
        {("Converse", feature): {**refusal, "operation": "Converse"}},
        timezone.now(),
    )


def claimed(model: str) -> CertificationRun:
    """Return a run of the model that was just claimed."""
    pairs = dispatch.pairs_of(dispatch.find_models([model]), dispatch.find_regions(["us-east-1"]))
    [run] = dispatch.certify(pairs, CertifyOptions(tier="quick")).job.runs.all()
    run_claimed = CertificationRun.objects.claim(run.pk, "a worker")
    assert run_claimed
    return run_claimed


def test_a_contradicted_refusal_is_forgotten(bedrock: Probe) -> None:
    remember("tool_choice", "toolChoice is not supported")
    bedrock.scenario('[[rule]]\nweak = {case = "G11", accuracy = 0}')
    run = certify(NOVA, tier="quick")
    assert run.verdict == Status.FAILED
    assert skipped_probes(run, "G11") == [
        ["Converse tool_choice"],
        [],
        [],
    ]  # the retries probed anew
    assert known()["Converse", "tool_choice"] is True


def test_when_the_second_form_is_refused_too_the_first_is_probed_again(bedrock: Probe) -> None:
    remember("structured_output", "outputConfig is not supported")
    remember("tool_choice", "toolChoice is not supported")
    bedrock.scenario(
        '[[rule]]\nmodel = "amazon.nova-lite*"\noperation = "Converse"\n'
        "not_in_region = true\nafter = 1"
    )
    run = certify(NOVA)
    assert skipped_probes(run, "J2")[0] == ["Converse structured_output", "Converse tool_choice"]
    assert ("Converse", "structured_output") not in known()


def test_a_refusal_that_nothing_contradicts_stays(bedrock: Probe) -> None:
    remember("temperature", "temperature is not supported")
    assert skipped_probes(certify(NOVA), "D1") == [["Converse temperature"]] * 5
    assert known()["Converse", "temperature"] is False


def test_declared_capabilities_are_probed_every_time(bedrock: Probe) -> None:
    remember("temperature", "temperature is not supported")
    run = claimed(NOVA)
    assert set(runner.known_refusals(run)) == {("Converse", "temperature")}
    run.model.capabilities = [*run.model.capabilities, "temperature"]
    assert runner.known_refusals(run) == {}


def test_a_row_without_a_stored_refusal_is_probed_again(bedrock: Probe) -> None:
    remember("temperature", "temperature is not supported")
    ParameterSupport.objects.update(refusal={})
    assert runner.known_refusals(claimed(NOVA)) == {}


def test_what_is_known_is_written_again_every_hour_only(bedrock: Probe) -> None:
    certify(NOVA)
    rows = ParameterSupport.objects.filter(operation="Converse", accepted=True)
    before = dict(rows.values_list("feature", "seen_at"))
    certify(NOVA)
    assert dict(rows.values_list("feature", "seen_at")) == before
    rows.update(seen_at=timezone.now() - ParameterSupport.REFRESH)
    certify(NOVA)
    assert min(rows.values_list("seen_at", flat=True)) > max(before.values())


def test_only_cases_with_another_form_skip_a_probe() -> None:
    probing = {}
    for case in registry.BY_ID.values():
        probes = {
            step.probe.feature for step in case.script(Ref(1, case.id, 0)).steps if step.probe
        }
        if probes:
            probing[case.id] = probes
    assert probing == {
        "G11": {"tool_choice"},
        "J2": {"structured_output", "tool_choice"},
        "R3": {"thinking_budget", "thinking_effort"},
        "D1": {"temperature"},
    }


def test_the_probe_cache_returns_the_stored_refusal_without_a_call() -> None:
    script = registry.BY_ID["D1"].script(Ref(1, "D1", 0))
    refusal = Failure(
        Reason.PARAMETER_NOT_SUPPORTED, "temperature is deprecated", "ValidationException", 400
    )
    probes = ProbeCache({("Converse", "temperature"): refusal})
    outcomes = execute(script, model(expected), probes=probes)
    assert outcomes[0] is refusal
    assert len(outcomes) == 3
    assert probes.skipped == {("Converse", "temperature")}
    assert probes.observed == {}
