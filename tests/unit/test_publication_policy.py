"""What is published at once, what waits for a second run, and until when it is believed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from certification.reasons import Status
from certification.suite import publication_policy
from certification.suite.publication_policy import Decision, Finished

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEYS = [(f"T{i}", trial) for i in range(28) for trial in range(3)]


def finished(verdict: Status, hours: float = 0.0, failed: int = 0, tier: str = "full") -> Finished:
    return Finished(
        verdict,
        tier,
        NOON + timedelta(hours=hours),
        {key: i >= failed for i, key in enumerate(KEYS)},
    )


CERTIFIED = finished(Status.CERTIFIED, -48)
WARNING = finished(Status.QUALITY_WARNING, 0, failed=4)


def decide(run: Finished, *since: Finished, certified: Finished | None = CERTIFIED) -> Decision:
    return publication_policy.decide(
        certified, [*since, run], run, run.completed_at + timedelta(minutes=1)
    )


class TestPublish:
    @pytest.mark.parametrize("verdict", [Status.PENDING, Status.NOT_TESTED])
    def test_no_verdict_is_no_news(self, verdict: Status) -> None:
        assert not decide(finished(verdict)).publish
        assert not decide(finished(verdict), certified=None).publish

    @pytest.mark.parametrize(
        "verdict", [s for s in Status if s not in (Status.PENDING, Status.NOT_TESTED)]
    )
    def test_everything_is_news_where_no_certificate_stands(self, verdict: Status) -> None:
        assert decide(finished(verdict), certified=None).publish

    @pytest.mark.parametrize(
        "verdict",
        [
            Status.CERTIFIED,
            Status.FAILED,
            Status.PERMISSION_REQUIRED,
            Status.CONFIGURATION_REQUIRED,
        ],
    )
    def test_good_news_failed_gates_and_refused_access_do_not_wait(self, verdict: Status) -> None:
        assert decide(finished(verdict)).publish

    def test_a_first_warning_is_held_back_and_says_why_and_until_when(self) -> None:
        held = decide(WARNING)
        assert not held.publish
        assert held.confirm_after == NOON + timedelta(hours=1)
        assert "one run below the required quality may be chance" in held.sentence
        assert "p = 0.062" in held.sentence
        assert "2026-03-10 13:00 UTC" in held.sentence

    def test_clear_evidence_does_not_wait(self) -> None:
        result = decide(finished(Status.QUALITY_WARNING, 0, failed=7))
        assert result.publish
        assert result.sentence.startswith("The warning is clear: 7 of 84 trials")
        assert not decide(finished(Status.QUALITY_WARNING, 0, failed=6)).publish

    @pytest.mark.parametrize(
        ("hours", "published"), [(0.5, False), (0.99, False), (1.0, True), (30, True)]
    )
    def test_two_warnings_need_an_hour_between_them(self, hours: float, published: bool) -> None:
        again = finished(Status.QUALITY_WARNING, hours, failed=4)
        assert decide(again, WARNING).publish is published

    def test_a_burst_of_warnings_waits_for_the_hour_after_the_first(self) -> None:
        runs = [
            finished(Status.QUALITY_WARNING, minutes / 60, failed=4) for minutes in (0, 10, 20, 59)
        ]
        held = decide(runs[-1], *runs[:-1])
        assert (held.publish, held.confirm_after) == (False, NOON + timedelta(hours=1))
        assert decide(finished(Status.QUALITY_WARNING, 1.01, failed=4), *runs).publish

    def test_what_was_before_the_certificate_does_not_count(self) -> None:
        old = finished(Status.QUALITY_WARNING, -60, failed=4)
        assert not decide(WARNING, old).publish

    def test_runs_without_a_verdict_and_good_ones_do_not_confirm_a_warning(self) -> None:
        assert not decide(
            WARNING, finished(Status.PENDING, -5), finished(Status.CERTIFIED, -4)
        ).publish

    def test_a_quick_run_does_not_replace_a_full_certificate(self) -> None:
        quick = finished(Status.CERTIFIED, tier="quick")
        assert not decide(quick).publish
        assert decide(quick, certified=finished(Status.CERTIFIED, -9, tier="quick")).publish
        assert decide(finished(Status.CERTIFIED), certified=quick).publish

    def test_every_decision_has_a_sentence(self) -> None:
        for verdict in Status:
            for certified in (None, CERTIFIED):
                assert decide(finished(verdict), certified=certified).sentence.endswith(".")


class TestAliases:
    @pytest.mark.parametrize(
        "model_id",
        [
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "anthropic.claude-opus-4-6-v1",
            "openai.gpt-oss-120b-1:0",
            "anthropic.claude-v2:1",
            "mistral.mistral-7b-instruct-v0:2",
            "openai.gpt-5.4-2026-03-05",
            "cohere.embed-english-v3",
            "mistral.magistral-small-2509",
            "qwen.qwen3-235b-a22b-2507",
            "anthropic.claude-3-haiku-20240307-v1:0:200k",
            "amazon.titan-embed-image-v1:0",
            "us.meta.llama3-3-70b-instruct-v1:0",
        ],
    )
    def test_pinned(self, model_id: str) -> None:
        assert not publication_policy.is_alias(model_id)

    @pytest.mark.parametrize(
        "model_id",
        [
            "anthropic.claude-haiku-4-5",
            "anthropic.claude-opus-4-7",
            "deepseek.v3.2",
            "openai.gpt-5.5",
            "openai.gpt-oss-120b",
            "qwen.qwen3-32b",
            "google.gemma-3-12b-it",
            "mistral.mistral-large-latest",
            "mistral.ministral-3-8b-instruct",
            "anthropic.claude-mythos-preview",
            "qwen.qwen3-next-80b-a3b",
            "vendor.model-123456789",
            "",
        ],
    )
    def test_alias(self, model_id: str) -> None:
        assert publication_policy.is_alias(model_id)


class TestExpiry:
    PINNED, ALIAS = "amazon.nova-pro-v1:0", "anthropic.claude-opus-4-7"

    def days(self, model_id: str, **more: object) -> float:
        return (publication_policy.expires_at(NOON, model_id, **more) - NOON) / timedelta(days=1)  # type: ignore[arg-type]

    def test_thirty_days_and_seven_for_what_moves(self) -> None:
        assert self.days(self.PINNED) == 30
        assert self.days(self.PINNED, lifecycle="ACTIVE") == 30
        assert self.days(self.ALIAS) == 7
        assert [self.days(self.PINNED, lifecycle=c) for c in ("PREVIEW", "LEGACY", "EOL")] == [
            7,
            7,
            7,
        ]

    def test_the_configured_time_holds_where_it_is_shorter(self) -> None:
        assert self.days(self.PINNED, ttl=timedelta(days=90)) == 90
        assert self.days(self.ALIAS, ttl=timedelta(days=3)) == 3

    def test_no_certificate_outlives_its_model(self) -> None:
        assert self.days(self.PINNED, end_of_life_on=date(2026, 3, 20)) == 9.5
        assert self.days(self.ALIAS, end_of_life_on=date(2026, 3, 11)) == 0.5
        assert self.days(self.PINNED, end_of_life_on=date(2027, 1, 1)) == 30

    def test_a_model_past_its_end_that_still_answers_is_looked_at_weekly(self) -> None:
        assert self.days(self.PINNED, end_of_life_on=date(2026, 3, 10)) == 7
        assert self.days(self.PINNED, end_of_life_on=date(2025, 1, 1)) == 7
