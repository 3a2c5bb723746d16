"""`manage.py sync_catalogue`: Bedrock's listings against ours, and what a difference does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import pytest
from django.core.management import call_command

from certification.bedrock import errors
from certification.bedrock.client import ListedModel, ListedProfile, MantleModel
from certification.engine import sync
from certification.engine.sync import RegionListing
from certification.models import AIModel, Lifecycle, ModelKind, Route, RouteKind
from certification.reasons import Reason
from tests.emulators import Probe

SIX = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "ap-northeast-1")
NOVA = "amazon.nova-lite-v1:0"
HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def bedrock(catalogue: None, emulator: str) -> Iterator[Probe]:
    probe = Probe(emulator)
    yield probe
    probe.page("/_emulator/scenario", b'{"name": "healthy"}')


def run(capsys: Any, *regions: str, dry_run: bool = False, code: int = 0) -> dict[str, Any]:
    """Return what the command reports with --json."""
    try:
        call_command("sync_catalogue", regions=list(regions), dry_run=dry_run, json=True)
        exit_code = 0
    except SystemExit as end:
        exit_code = int(end.code or 0)
    assert exit_code == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def state() -> tuple[set[Any], set[Any]]:
    models = set(
        AIModel.objects.values_list("api_model_id", "lifecycle", "end_of_life_on", "is_active")
    )
    return models, set(
        Route.objects.values_list("model__api_model_id", "region_id", "kind", "target_id")
    )


def test_the_shipped_catalogue_is_what_the_emulator_lists(capsys: Any) -> None:
    before = state()
    report = run(capsys, *SIX)
    assert report["regions"] == 6
    assert not any(
        report[what] for what in ("new_models", "lifecycle", "appeared", "vanished", "problems")
    )
    assert state() == before
    assert not Route.objects.filter(region__in=SIX, last_seen_at=None).exists()


def test_an_unknown_model_and_its_routes_appear(capsys: Any) -> None:
    AIModel.objects.filter(api_model_id=NOVA).delete()
    report = run(capsys, "us-east-1")
    assert report["new_models"] == [NOVA]
    assert sorted(report["appeared"]) == [["us-east-1", NOVA], ["us-east-1", f"us.{NOVA}"]]
    row = AIModel.objects.get(api_model_id=NOVA)
    assert (row.kind, row.vendor, row.lifecycle, row.is_active) == (
        ModelKind.TEXT,
        "Amazon",
        "ACTIVE",
        True,
    )
    assert {"chat", "tools", "streaming_tools", "vision"} <= set(row.capabilities)
    assert run(capsys, "us-east-1")["new_models"] == []


def test_a_route_that_is_no_longer_listed_vanishes_in_its_region_only(capsys: Any) -> None:
    model = AIModel.objects.get(api_model_id=NOVA)
    for region in ("us-east-1", "us-west-2"):
        Route.objects.create(
            model=model,
            region_id=region,
            kind=RouteKind.INFERENCE_PROFILE,
            target_id=f"mars.{NOVA}",
        )
    assert run(capsys, "us-east-1")["vanished"] == [["us-east-1", f"mars.{NOVA}"]]
    assert list(
        Route.objects.filter(target_id=f"mars.{NOVA}").values_list("region_id", flat=True)
    ) == ["us-west-2"]


def test_a_model_that_went_legacy_is_reported_with_before_and_after(
    bedrock: Probe, capsys: Any
) -> None:
    bedrock.scenario(f'[[rule]]\nmodel = "{NOVA}"\nlegacy = true')
    assert run(capsys, "us-east-1")["lifecycle"] == [[NOVA, "ACTIVE", "LEGACY"]]
    assert AIModel.objects.get(api_model_id=NOVA).lifecycle == Lifecycle.LEGACY
    assert run(capsys, "us-east-1")["lifecycle"] == []


def test_a_dry_run_reports_everything_and_changes_nothing(bedrock: Probe, capsys: Any) -> None:
    AIModel.objects.filter(api_model_id=NOVA).delete()
    bedrock.scenario(f'[[rule]]\nmodel = "{HAIKU}"\nlegacy = true')
    before = state()
    report = run(capsys, "us-east-1", dry_run=True)
    assert report["dry_run"] is True
    assert (report["new_models"], len(report["appeared"]), len(report["lifecycle"])) == (
        [NOVA],
        2,
        1,
    )
    assert state() == before


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error = 503", "service_unavailable"),
        ("invalid_credentials = true", "credentials_invalid"),
        ("reset = true", "connection_refused"),
    ],
)
def test_a_region_that_does_not_answer_changes_nothing(
    bedrock: Probe, capsys: Any, fault: str, reason: str
) -> None:
    """Half an answer counts as none: here only the second listing fails."""
    bedrock.scenario(
        f'[[rule]]\noperation = "ListInferenceProfiles"\nregion = "us-east-1"\n{fault}'
    )
    before = state()
    report = run(capsys, "us-east-1", "us-west-2")
    assert report["regions"] == 1
    assert [problem[:2] for problem in report["problems"]] == [["us-east-1", reason]]
    assert state() == before


def test_when_no_region_answers_the_exit_code_says_so(bedrock: Probe, capsys: Any) -> None:
    bedrock.scenario("[[rule]]\ninvalid_credentials = true")
    run(capsys, "us-east-1", code=1)
    with pytest.raises(SystemExit):
        call_command("sync_catalogue", regions=["us-east-1"])
    report = capsys.readouterr().out
    assert "credentials_invalid" in report
    assert "No region answered, so nothing was changed." in report
    assert "The catalogue is up to date" not in report


# Listings as AWS may send them and the emulator does not


def listed(
    model_id: str, lifecycle: str = "ACTIVE", end: str = "", types: Sequence[str] = ("ON_DEMAND",)
) -> ListedModel:
    return ListedModel(
        model_id, "A model", "A vendor", ("TEXT",), ("TEXT",), True, tuple(types), lifecycle, end
    )


def test_a_region_that_lists_nothing_changes_nothing() -> None:
    before = state()
    changes = sync.apply([RegionListing("us-east-1")])
    assert (changes.regions, len(changes.problems)) == (0, 1)
    assert state() == before


def test_regions_that_retire_a_model_at_different_times_do_not_make_it_flap() -> None:
    retired, active = listed(NOVA, "LEGACY", "2027-01-31T00:00:00Z"), listed(NOVA, "ACTIVE")
    for order in ([retired, active], [active, retired]):
        listings = [
            RegionListing(region, (entry,)) for region, entry in zip(SIX, order, strict=False)
        ]
        assert sync.apply(listings, dry_run=True).lifecycle == []
    both = [RegionListing(region, (retired,)) for region in SIX[:2]]
    assert sync.apply(both).lifecycle == [(NOVA, "ACTIVE", "LEGACY")]
    assert str(AIModel.objects.get(api_model_id=NOVA).end_of_life_on) == "2027-01-31"
    assert sync.apply(both).lifecycle == []


def test_profiles_with_unknown_prefixes_become_routes() -> None:
    profile = ListedProfile(f"moon.{NOVA}", "Moon Nova Lite", (NOVA,), "ACTIVE")
    changes = sync.apply([RegionListing("us-east-1", (listed(NOVA),), (profile,))])
    assert ("us-east-1", f"moon.{NOVA}") in changes.appeared
    route = Route.objects.get(target_id=f"moon.{NOVA}")
    assert (route.kind, route.source) == (RouteKind.INFERENCE_PROFILE, "sync")


def test_a_provisioned_size_of_a_known_model_is_no_model_of_its_own() -> None:
    changes = sync.apply(
        [RegionListing("us-east-1", (listed(f"{NOVA}:24k", types=["PROVISIONED"]),))]
    )
    assert changes.new_models == []


SIZES = [(":48k", "PROVISIONED"), (":200k", "PROVISIONED"), ("", "ON_DEMAND")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_sizes_of_a_new_model_are_no_models_in_whatever_order(order: tuple[int, ...]) -> None:
    entries = [listed(f"newco.alpha-v1:0{SIZES[i][0]}", types=[SIZES[i][1]]) for i in order]
    changes = sync.apply([RegionListing("us-east-1", tuple(entries))])
    assert changes.new_models == ["newco.alpha-v1:0"]


def test_a_model_of_which_only_sizes_are_listed_is_one_model() -> None:
    entries = tuple(listed(f"newco.beta-v1:0:{size}k", types=[]) for size in (8, 32))
    changes = sync.apply([RegionListing("us-east-1", entries)])
    assert changes.new_models == ["newco.beta-v1:0"]
    assert sync.apply([RegionListing("us-east-1", entries)]).new_models == []


def test_an_entry_that_cannot_be_read_is_reported_and_takes_no_route_away() -> None:
    before = state()
    bad = ("modelId is no text: {}",)
    changes = sync.apply([RegionListing("us-east-1", (listed(NOVA),), mantle=(), unreadable=bad)])
    assert changes.vanished == []
    [(region, reason, message), _about_mantle] = changes.problems
    assert (region, reason) == ("us-east-1", "bad_response")
    assert "modelId is no text" in message
    assert state() == before


# bedrock-mantle

GLM = "zai.glm-4.6"  # only there


def on_mantle(region: str) -> set[str]:
    routes = Route.objects.filter(region=region, endpoint="bedrock-mantle")
    return set(routes.values_list("target_id", flat=True))


def mantle(*entries: MantleModel | str, region: str = "us-east-1") -> RegionListing:
    """A region's answer with these models of bedrock-mantle."""
    models = tuple(MantleModel(e) if isinstance(e, str) else e for e in entries)
    return RegionListing(region, (listed(NOVA),), mantle=models)


def test_mantle_routes_follow_its_listing() -> None:
    changes = sync.apply([mantle(GLM, "openai.gpt-5.5", "openai.gpt-5.5-2026-04-23")])
    assert on_mantle("us-east-1") == {GLM, "openai.gpt-5.5"}
    assert ("us-east-1", "openai.gpt-oss-20b") in changes.vanished
    route = Route.objects.get(region="us-east-1", target_id=GLM)
    assert (route.api, route.path_prefix) == ("chat_completions", "/v1")
    assert route.last_seen_at is not None
    assert changes.new_models == []


def test_an_id_of_mantle_is_a_route_of_the_model_that_it_is_an_alias_of() -> None:
    Route.objects.filter(target_id="openai.gpt-oss-20b").delete()
    changes = sync.apply([mantle("openai.gpt-oss-20b")])
    assert ("us-east-1", "openai.gpt-oss-20b") in changes.appeared
    assert (changes.new_models, changes.possible_aliases) == ([], [])
    models = Route.objects.filter(target_id="openai.gpt-oss-20b").values_list(
        "model__api_model_id", flat=True
    )
    assert set(models) == {"openai.gpt-oss-20b-1:0"}


def test_an_id_that_looks_like_a_models_is_new_and_only_reported() -> None:
    changes = sync.apply([mantle(GLM, "zai.glm-4.6-v1:0", "xai.grok-9")])
    assert sorted(changes.new_models) == ["xai.grok-9", "zai.glm-4.6-v1:0"]
    assert changes.possible_aliases == [("zai.glm-4.6-v1:0", GLM)]
    grok = AIModel.objects.get(api_model_id="xai.grok-9")
    assert (grok.vendor, grok.kind, grok.input_price) == ("xAI", "text", None)
    assert {(r.api, r.path_prefix) for r in grok.routes.all()} == {
        ("responses", "/openai/v1"),
        ("chat_completions", "/openai/v1"),
    }


def test_a_gate_of_data_retention_is_reported_and_kept_with_the_route() -> None:
    gated = MantleModel("anthropic.claude-fable-5", "data retention mode 'default' is too low")
    changes = sync.apply([mantle(GLM, gated)])
    assert changes.gated == [("us-east-1", gated.model_id, gated.unavailable)]
    route = Route.objects.get(region="us-east-1", target_id=gated.model_id)
    assert route.last_refusal is not None
    assert route.last_refusal["reason"] == "data_retention_required"
    assert route.last_refusal["message"] == gated.unavailable
    sync.apply([mantle(GLM, gated.model_id)])
    route.refresh_from_db()
    assert route.last_refusal is None


def test_what_only_one_endpoint_lists_is_reported() -> None:
    claude = "anthropic.claude-opus-5"
    here = RegionListing(
        "us-east-1",
        (listed(NOVA), listed("deepseek.v3.2")),
        mantle=(MantleModel(claude), MantleModel(GLM)),
    )
    changes = sync.apply([here])
    assert ("us-east-1", "deepseek.v3.2", "bedrock-runtime") in changes.disagreements
    assert ("us-east-1", claude, "bedrock-mantle") in changes.disagreements
    assert not {NOVA, GLM} & {model for _region, model, _only in changes.disagreements}


def test_an_entry_of_mantle_that_cannot_be_read_takes_no_route_of_mantle_away() -> None:
    before = on_mantle("us-east-1")
    assert len(before) > 1
    bad = ("id is no id: {}",)
    listing = RegionListing(
        "us-east-1", (listed(NOVA),), mantle=(MantleModel(GLM),), mantle_unreadable=bad
    )
    changes = sync.apply([listing])
    assert any("id is no id" in message for _region, _reason, message in changes.problems)
    assert before <= on_mantle("us-east-1")


def test_a_region_without_mantle_has_no_routes_there() -> None:
    sync.apply([RegionListing("us-east-1", (listed(NOVA),), mantle=None)])
    assert on_mantle("us-east-1") == set()
    assert on_mantle("us-west-2")


@pytest.mark.parametrize("problem", ["refused", "empty"])
def test_when_mantle_does_not_answer_its_routes_stay(problem: str) -> None:
    before = on_mantle("us-east-1")
    error = errors.error(Reason.IAM_DENIED, "Not authorized.")
    changes = sync.apply(
        [
            RegionListing("us-east-1", (listed(NOVA),), mantle_problem=error)
            if problem == "refused"
            else RegionListing("us-east-1", (listed(NOVA),), mantle=())
        ]
    )
    assert on_mantle("us-east-1") == before
    assert changes.regions == 1
    assert "bedrock-mantle" in changes.problems[0][2]
