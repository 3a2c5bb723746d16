"""The deep tier: a very long text, a burst, and fingerprints of regions."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from django.conf import settings as settings_of_django
from django.core.management import call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certification.bedrock import errors
from certification.bedrock.client import Bedrock
from certification.engine import calls, dispatch, parity, queue, runner
from certification.engine.dispatch import CertifyOptions
from certification.engine.worker import get_worker
from certification.inference import AnyRequest, Failure, Outcome, Reply, Text, Timing
from certification.models import CertificationJob, RunJudgement, TestResult
from certification.reasons import Reason, Status
from certification.suite import registry, synthetic_replies
from certification.suite.case import Case, Context, Grade, Kind, Ref
from certification.suite.cases import deep
from certification.suite.scoring import CaseOutcome, CaseStatus, Run
from tests.emulators import Probe
from tests.unit.test_graders import OUTCOMES, assert_sound
from tests.unit.test_suite_full import expected, grade_trial, model, near_miss_at, requests
from tests.unit.test_suite_full import run as ask

N3, B1, F1 = deep.DEEP
SEEDS = (41, 2**31 + 7)
EACH = [
    pytest.param(c, s, t, id=f"{c.id}-{s}-{t}") for c in deep.DEEP for s in SEEDS for t in range(3)
]


class TestCases:
    def test_they_are_in_no_other_tier_and_change_no_score(self) -> None:
        for kind in ("text", "embedding"):
            assert not {c.id for c in registry.cases(kind, "full")} & {"N3", "B1", "F1"}
        result = registry.cases("text", "deep")
        assert set(deep.DEEP) <= set(result)
        assert result[-1].whole_run, "what looks at the whole run comes last"
        assert {c.kind for c in deep.DEEP} == {Kind.INFORMATION}

    @pytest.mark.parametrize(("case", "seed", "trial"), EACH)
    def test_the_ideal_answer_passes(self, case: Case, seed: int, trial: int) -> None:
        grade = ask(case, expected, seed, trial)
        assert grade.passed, grade
        assert not grade.lacks
        assert_sound(grade)

    @pytest.mark.parametrize(("case", "seed", "trial"), [p for p in EACH if p.values[0] is not F1])
    def test_the_near_answer_fails(self, case: Case, seed: int, trial: int) -> None:
        grade = ask(case, near_miss_at(0), seed, trial)
        assert not grade.passed
        assert grade.valid
        assert not grade.lacks

    @pytest.mark.parametrize(("case", "seed", "trial"), EACH)
    def test_prompts_are_the_seeds_and_sparing(self, case: Case, seed: int, trial: int) -> None:
        [request] = requests(case, seed, trial)
        assert requests(case, seed, trial) == [request]
        assert requests(case, seed, trial + 1) != [request]
        assert request.temperature is None
        assert 64 <= request.max_tokens <= 300

    @pytest.mark.parametrize("case", deep.DEEP, ids=lambda c: c.id)
    @given(outcomes=st.lists(OUTCOMES, max_size=2).map(tuple))
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_any_outcomes_give_a_grade(self, case: Case, outcomes: tuple[Outcome, ...]) -> None:
        for window in (None, 8_000):
            assert_sound(
                case.script(Ref(7, case.id, 0)).grade(outcomes, Context(context_window=window))
            )

    @pytest.mark.parametrize("case", deep.DEEP, ids=lambda c: c.id)
    def test_a_throttle_is_not_the_models(self, case: Case) -> None:
        failure = Failure(
            Reason.THROTTLED_REQUESTS, "Too many requests", "ThrottlingException", 429
        )
        grade = grade_trial(case, lambda request: failure, 41, 0)
        assert not grade.valid
        assert grade.cause is not None
        assert grade.cause.reason == Reason.THROTTLED_REQUESTS

    def test_the_estimate_is_the_full_ones_and_theirs(self) -> None:
        full, whole = registry.estimate("text", "full"), registry.estimate("text", "deep")
        assert whole.calls == full.calls + 1 + 5 + 200
        assert 100_000 < whole.input_tokens - full.input_tokens < 115_000

    def test_what_is_only_told_neither_delays_a_verdict_nor_brings_one(self) -> None:
        throttled = Grade(False, "", valid=False, cause=Failure(Reason.THROTTLED_REQUESTS, ""))
        judged = [
            CaseOutcome(c, (Grade(True, ""),) * c.repeats) for c in registry.cases("text", "full")
        ]
        informational = CaseOutcome(F1, (throttled,) * 202)
        assert Run("deep", (*judged, informational)).valid_share == 1.0
        informational = CaseOutcome(F1, (Grade(True, ""),) * 200)
        gone = [
            replace(o, trials=(throttled,)) if o.case.category == "tools" else o for o in judged
        ]
        assert Run("deep", (*gone, informational)).valid_share < 0.95


class TestLongText:
    def test_it_has_about_100_000_tokens(self) -> None:
        [request] = requests(N3, 41, 0)
        assert 97_000 < synthetic_replies.request_tokens(request) < 110_000

    @pytest.mark.parametrize(("window", "lacks"), [(8_000, True), (None, True), (200_000, False)])
    def test_a_refusal_for_length_is_a_lack_where_the_window_may_be_small(
        self, window: int | None, lacks: bool
    ) -> None:
        failure = Failure(Reason.CONTEXT_TOO_LONG, "prompt is too long", "ValidationException", 400)
        grade = grade_trial(N3, lambda request: failure, 41, 0, context_window=window)
        assert grade.lacks == ("context_of_100k_tokens" if lacks else "")

    def test_a_model_with_a_small_window_that_reads_only_a_part_lacks_it_too(self) -> None:
        grade = ask(N3, near_miss_at(0), context_window=8_000)
        assert grade.lacks == "context_of_100k_tokens"
        assert CaseOutcome(N3, (grade,)).status == CaseStatus.SKIPPED
        assert ask(N3, expected, context_window=8_000).passed


class TestBurst:
    def test_every_trial_tells_its_latency(self) -> None:
        def slow(request: AnyRequest) -> Outcome:
            reply = model(expected)(request)
            assert isinstance(reply, Reply)
            return replace(reply, timing=Timing(812.5))

        grades = [grade_trial(B1, slow, 41, trial) for trial in range(5)]
        assert [g.evidence["latency_ms"] for g in grades] == [812.5] * 5


class TestFingerprint:
    def test_ten_samples_each_of_twenty_prompts(self) -> None:
        assert F1.repeats == 200
        grades = [ask(F1, expected, 41, trial) for trial in range(200)]
        assert [g.evidence["prompt"] for g in grades] == [p for p in range(20) for _ in range(10)]
        contents = {requests(F1, seed, 0)[0].messages[0].content for seed in SEEDS}
        bare = {
            Ref.PATTERN.sub("", b.text)
            for content in contents
            for b in content
            if isinstance(b, Text)
        }
        assert len(bare) == 1, "every seed asks the same questions, or nothing could be compared"

    def test_answers_vary_and_come_back(self) -> None:
        answers = [ask(F1, expected, 41, trial).evidence["answer"] for trial in range(10)]
        assert 1 < len(set(answers)) < 6

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Blue.", "blue"),
            ("**São Paulo**", "sao paulo"),
            ("I'd say: blue, of course!", "i d say"),
            ("42", "42"),
            ("  Q\n", "q"),
            ("...", ""),
            ("a" * 500, "a" * 40),
        ],
    )
    def test_what_is_compared_is_the_first_three_words(self, text: str, expected: str) -> None:
        assert deep.shorten(text) == expected

    def test_trials_in_place_of_throttled_ones_ask_known_prompts(self) -> None:
        assert ask(F1, expected, 41, 201).evidence["prompt"] == 0


# Against the emulator, as a whole job.

MODEL = "amazon.nova-micro-v1:0"
REGIONS = ["us-east-1", "us-west-2"]


@pytest.fixture
def engine(
    transactional_db: None, catalogue: None, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Probe]:
    """A deep job runs here, against an emulator that is healthy again afterwards."""
    monkeypatch.setattr(queue, "publish_job", lambda _job: True)
    monkeypatch.setattr(calls, "BACKOFF_S", (0.01, 0.01, 0.01))
    probe = Probe(emulator)
    yield probe
    probe.scenario("")
    probe.close()
    redis.Redis.from_url(settings_of_django.REDIS_URL).flushall()  # no route stays slowed down


def certify(model: str, regions: list[str], seed: int = 2) -> CertificationJob:
    options = CertifyOptions(tier="deep", seed=seed)
    job = dispatch.certify(
        dispatch.pairs_of(dispatch.find_models([model]), dispatch.find_regions(regions)), options
    ).job
    for run in job.runs.all():
        assert runner.run(run.pk, get_worker())
    job.refresh_from_db()
    return job


def alone(*cases: Case) -> Callable[..., tuple[Case, ...]]:
    """The registry's answer when a run shall have the access gate and these cases only."""
    return lambda *_args, **_more: (registry.BY_ID["G01"], *cases)


@pytest.mark.slow
class TestDeepJobs:
    def test_equal_regions_answer_alike(self, engine: Probe) -> None:
        job = certify(MODEL, REGIONS)
        assert set(job.runs.values_list("verdict", flat=True)) == {Status.CERTIFIED}
        assert parity.compare(job) == ()
        job.refresh_from_db()
        assert job.config["queue"], "what was there stays"
        [result] = job.config["comparison"]["fingerprints"]
        assert (result["model"], result["region"], result["reference"]) == (
            MODEL,
            "us-west-2",
            "us-east-1",
        )
        assert result["pValue"] > 0.1
        assert result["adjusted"] >= result["pValue"]
        assert result["sentence"] == ""
        assert not RunJudgement.objects.exists()
        assert "alike" in shown(job)
        for case_id, trials in (("N3", 1), ("B1", 5), ("F1", 200)):
            for result in TestResult.objects.filter(run__job=job, case_id=case_id):
                assert (result.passes, result.trials_valid, result.verdict) == (
                    trials,
                    trials,
                    "passed",
                )

    def test_another_model_behind_the_same_name_is_found(
        self, engine: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "cases", alone(F1))
        engine.scenario(
            '[[rule]]\nregion = "us-west-2"\nweak = { category = "determinism", accuracy = 0.0 }'
        )
        job = certify(MODEL, REGIONS)
        parity.compare(job)
        job.refresh_from_db()
        [result] = job.config["comparison"]["fingerprints"]
        assert result["pValue"] < 0.01
        assert result["distance"] > 0.1
        assert "differ" in shown(job)
        later = RunJudgement.objects.get()
        assert later.run.region_id == "us-west-2"
        assert later.verdict == later.run.verdict, "it informs and does not judge"
        assert "short answers differ from those in us-east-1" in later.message
        assert json.loads(shown(job, "--json"))["comparison"]["fingerprints"] == [result]

    def test_one_odd_region_among_several_is_found_and_the_others_are_not(
        self, engine: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "cases", alone(F1))
        engine.scenario(
            '[[rule]]\nregion = "eu-north-1"\nweak = { category = "determinism", accuracy = 0.0 }'
        )
        job = certify(
            "amazon.nova-lite-v1:0",
            ["us-east-1", "us-west-2", "eu-north-1", "eu-west-1", "ap-south-1"],
        )
        parity.compare(job)
        job.refresh_from_db()
        result = job.config["comparison"]["fingerprints"]
        assert len(result) == 4
        assert {one["region"] for one in result if one["sentence"]} == {"eu-north-1"}
        [odd] = [one for one in result if one["sentence"]]
        assert odd["adjusted"] == pytest.approx(4 * odd["pValue"])

    def test_a_window_that_is_too_small_skips_the_long_text(
        self, engine: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "cases", alone(N3))
        job = certify("meta.llama3-8b-instruct-v1:0", ["us-east-1"])
        result = TestResult.objects.get(run__job=job, case_id="N3")
        assert (result.verdict, result.trials_valid) == ("skipped", 0)
        assert result.run.environment["lacks"] == ["context_of_100k_tokens"]

    def test_a_burst_goes_out_at_once_and_with_nothing_beside_it(
        self, engine: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its five calls meet at a barrier that fewer than five in flight could never pass."""
        barrier, observed = asyncio.Barrier(5), []
        real = Bedrock.send
        inside = 0

        async def send(self: Bedrock, region: str, to: Any, request: Any, left: float) -> Any:
            nonlocal inside
            inside += 1
            if "-B1-" in str(request):
                await barrier.wait()
                observed.append(inside)
                await barrier.wait()
            try:
                return await real(self, region, to, request, left)
            finally:
                inside -= 1

        monkeypatch.setattr(Bedrock, "send", send)
        monkeypatch.setattr(
            registry, "cases", alone(registry.BY_ID["L1"], B1, registry.BY_ID["L2"])
        )
        assert get_worker().calls_per_run < 5
        result = TestResult.objects.get(run__job=certify(MODEL, ["us-east-1"]), case_id="B1")
        assert observed == [5] * 5
        assert result.passes == 5
        assert all(trial["evidence"]["latency_ms"] > 0 for trial in result.trials)

    def test_a_throttled_burst_says_so_and_blames_no_model(
        self, engine: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Bedrock.send

        async def send(self: Bedrock, region: str, to: Any, request: Any, left: float) -> Any:
            if "-B1-" in str(request):
                raise errors.error(
                    Reason.THROTTLED_REQUESTS, "Too many requests, please wait before trying again."
                )
            return await real(self, region, to, request, left)

        monkeypatch.setattr(Bedrock, "send", send)
        monkeypatch.setattr(registry, "cases", alone(B1))
        result = TestResult.objects.get(run__job=certify(MODEL, ["us-east-1"]), case_id="B1")
        assert (result.trials_valid, len(result.trials), result.verdict) == (0, 7, "invalid")
        assert all(len(trial["calls"]) == 1 for trial in result.trials)
        assert "says nothing about the model" in result.sentence
        assert result.trials[0]["cause"]["reason"] == Reason.THROTTLED_REQUESTS


def shown(job: CertificationJob, *options: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        call_command("job", "show", str(job.pk), *options, stdout=out)
    return out.getvalue()
