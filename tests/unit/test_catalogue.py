"""The shipped catalogue: one entry per model, its ids, its routes in the order of trial."""

from __future__ import annotations

from collections import Counter

import pytest

from certification.bedrock import catalogue
from certification.bedrock.catalogue import INFERENCE_PROFILE, ON_DEMAND, PROVISIONED
from certification.inference import API, Endpoint, RouteTarget
from certification.suite import registry

CATALOGUE = catalogue.load()
MODELS = CATALOGUE.models
RUNTIME, MANTLE = Endpoint.RUNTIME, Endpoint.MANTLE
GLM = "zai.glm-4.6"

# The ids that bedrock-mantle gives to models which bedrock-runtime serves under another one.
TWINS = {
    "anthropic.claude-haiku-4-5": "anthropic.claude-haiku-4-5-20251001-v1:0",
    "deepseek.v3.1": "deepseek.v3-v1:0",
    "moonshotai.kimi-k2-thinking": "moonshot.kimi-k2-thinking",
    "openai.gpt-oss-120b": "openai.gpt-oss-120b-1:0",
    "openai.gpt-oss-20b": "openai.gpt-oss-20b-1:0",
    "qwen.qwen3-235b-a22b-2507": "qwen.qwen3-235b-a22b-2507-v1:0",
    "qwen.qwen3-32b": "qwen.qwen3-32b-v1:0",
    "qwen.qwen3-coder-30b-a3b-instruct": "qwen.qwen3-coder-30b-a3b-v1:0",
    "qwen.qwen3-coder-480b-a35b-instruct": "qwen.qwen3-coder-480b-a35b-v1:0",
    "qwen.qwen3-next-80b-a3b-instruct": "qwen.qwen3-next-80b-a3b",
    "qwen.qwen3-vl-235b-a22b-instruct": "qwen.qwen3-vl-235b-a22b",
}
DATED = {
    "openai.gpt-5.4-2026-03-05": "openai.gpt-5.4",
    "openai.gpt-5.5-2026-04-23": "openai.gpt-5.5",
}
# Models that were in no region although Bedrock serves them.
ADDED = (
    "anthropic.claude-fable-5-1", "anthropic.claude-haiku-5-5", "anthropic.claude-mythos-5-1",
    "anthropic.claude-opus-5-5", "anthropic.claude-sonnet-5-5", "moonshotai.kimi-k3",
    "openai.gpt-6-astra", "openai.gpt-6-luna", "openai.gpt-6-sol", "openai.gpt-6.1-sol",
    "openai.gpt-6.1-terra", "xai.grok-4.7", "zai.glm-5.3",
)  # fmt: skip


def routes(model_id: str, region: str) -> list[tuple[str, str, API]]:
    """The routes of a model in a region as (endpoint's last word, target id, API)."""
    return [
        (str(r.endpoint).removeprefix("bedrock-"), r.target_id, r.api)
        for r in MODELS[model_id].routes_in(region)
    ]


def test_every_region_of_a_model_with_a_suite_has_a_route() -> None:
    cells = [(m, r) for m in MODELS.values() for r in m.regions if registry.has_suite(m.kind)]
    assert len(cells) > 1600
    assert [(m.api_model_id, r) for m, r in cells if not m.routes_in(r)] == []


def test_the_figures_of_the_catalogue() -> None:
    cells = [(m, r) for m in MODELS.values() for r in m.regions]
    by_endpoint = Counter(r.endpoint for m, region in cells for r in m.routes_in(region))
    only_mantle = [c for c in cells if all(r.endpoint == MANTLE for r in c[0].routes_in(c[1]))]
    assert (len(MODELS), len(cells)) == (168, 1735)
    assert by_endpoint == {RUNTIME: 3383, MANTLE: 669}
    # 36 of twins, 43 of models of bedrock-runtime, 30 of models of bedrock-mantle, 3 of Mythos.
    assert len(only_mantle) == 36 + 43 + 30 + 3
    assert {m.api_model_id for m in MODELS.values() if m.regions and not m.targets} == {
        "anthropic.claude-mythos-5",
        "anthropic.claude-mythos-preview",
        "google.gemma-4-26b-a4b",
        "google.gemma-4-31b",
        "google.gemma-4-e2b",
        "xai.grok-4.3",
        GLM,
    }


@pytest.mark.parametrize(("alias", "canonical"), (TWINS | DATED).items())
def test_other_ids_of_a_model_name_it(alias: str, canonical: str) -> None:
    assert CATALOGUE.canonical_ids[alias] == CATALOGUE.canonical_ids[canonical] == canonical
    assert alias not in MODELS
    mantle = MODELS[canonical].mantle
    assert mantle is not None
    if alias in TWINS:
        assert mantle.model_id == alias
        for region in mantle.regions:
            assert ("mantle", alias) in {route[:2] for route in routes(canonical, region)}


def test_no_id_names_two_models() -> None:
    names = [n for m in MODELS.values() for n in (m.api_model_id, *m.aliases)]
    assert len(names) == len(set(names)) == 168 + len(TWINS) + len(DATED)


def test_112_cells_of_twins_became_cells_of_the_model_they_are() -> None:
    merged = 0
    for canonical in TWINS.values():
        model = MODELS[canonical]
        assert model.mantle is not None
        merged += len(model.mantle.regions & set(model.targets))
    assert merged == 112


@pytest.mark.parametrize("model_id", ADDED)
def test_models_that_were_in_no_region_have_routes(model_id: str) -> None:
    on_runtime = [r for r in MODELS[model_id].routes_in("us-east-1") if r.endpoint == RUNTIME]
    assert on_runtime[0].api == API.CONVERSE
    assert {r.kind for r in on_runtime} == {INFERENCE_PROFILE}


@pytest.mark.parametrize("name", ["mythos-5", "mythos-preview"])
def test_mythos_answers_only_messages_on_mantle(name: str) -> None:
    model_id = f"anthropic.claude-{name}"
    assert routes(model_id, "us-east-1") == [("mantle", model_id, API.MESSAGES)]
    assert MODELS[model_id].routes_in("us-east-1")[0].path_prefix == "/anthropic/v1"


@pytest.mark.parametrize(
    ("model_id", "regions"),
    [
        ("openai.gpt-5.4", ("us-east-1", "us-east-2", "us-west-2")),
        ("openai.gpt-5.5", ("us-east-1", "us-east-2")),
    ],
)
def test_gpt_5_4_and_5_5_moved_to_the_runtime(model_id: str, regions: tuple[str, ...]) -> None:
    for region in regions:
        there = routes(model_id, region)
        assert there[0] == ("runtime", f"us.{model_id}", API.CONVERSE)
        assert ("runtime", f"us.{model_id}", API.RESPONSES) in there
        assert ("mantle", model_id, API.RESPONSES) in there
    assert MODELS[model_id].unproven == (API.CONVERSE, API.CHAT_COMPLETIONS)


def test_a_runtime_model_is_called_on_mantle_where_only_that_lists_it() -> None:
    assert routes("deepseek.v3.2", "ap-southeast-1") == [
        ("mantle", "deepseek.v3.2", API.CHAT_COMPLETIONS)
    ]
    assert routes("deepseek.v3.2", "us-east-1")[0] == ("runtime", "deepseek.v3.2", API.CONVERSE)


def test_routes_are_tried_from_the_runtime_to_mantle() -> None:
    assert routes("anthropic.claude-opus-5", "us-east-1") == [
        ("runtime", "us.anthropic.claude-opus-5", API.CONVERSE),
        ("runtime", "global.anthropic.claude-opus-5", API.CONVERSE),
        ("runtime", "us.anthropic.claude-opus-5", API.MESSAGES),
        ("runtime", "global.anthropic.claude-opus-5", API.MESSAGES),
        ("mantle", "anthropic.claude-opus-5", API.MESSAGES),
    ]
    assert routes("xai.grok-4.6", "us-west-2") == [
        ("runtime", "us.xai.grok-4.6", API.CONVERSE),
        ("runtime", "global.xai.grok-4.6", API.CONVERSE),
        ("runtime", "us.xai.grok-4.6", API.RESPONSES),
        ("runtime", "global.xai.grok-4.6", API.RESPONSES),
        ("runtime", "us.xai.grok-4.6", API.CHAT_COMPLETIONS),
        ("runtime", "global.xai.grok-4.6", API.CHAT_COMPLETIONS),
        ("mantle", "xai.grok-4.6", API.RESPONSES),
        ("mantle", "xai.grok-4.6", API.CHAT_COMPLETIONS),
    ]
    assert routes("openai.gpt-oss-20b-1:0", "us-east-1") == [
        ("runtime", "openai.gpt-oss-20b-1:0", API.CONVERSE),
        ("runtime", "openai.gpt-oss-20b-1:0", API.CHAT_COMPLETIONS),
        ("mantle", "openai.gpt-oss-20b", API.CHAT_COMPLETIONS),
        ("mantle", "openai.gpt-oss-20b", API.RESPONSES),
    ]


def test_the_bare_id_comes_before_profiles_and_provisioned_capacity_last() -> None:
    ids = [("arn:x", PROVISIONED), ("global.m", INFERENCE_PROFILE), ("us.m", INFERENCE_PROFILE)]
    targets = [RouteTarget(name, kind) for name, kind in (*ids, ("m", ON_DEMAND))]
    assert [t.target_id for t in sorted(targets, key=catalogue.order_of_trial)] == [
        "m", "us.m", "global.m", "arn:x",
    ]  # fmt: skip


def test_embeddings_and_other_kinds_are_called_by_invoke() -> None:
    for model in MODELS.values():
        apis = {r.api for region in model.regions for r in model.routes_in(region)}
        assert (API.INVOKE in apis) == (model.kind != "text" and bool(model.regions)), model


def test_paths_follow_the_endpoint_the_api_and_the_family() -> None:
    paths = {
        (str(r.endpoint), str(r.api), r.path_prefix)
        for m in MODELS.values()
        for region in m.regions
        for r in m.routes_in(region)
    }
    assert paths == {
        ("bedrock-runtime", "converse", ""),
        ("bedrock-runtime", "invoke", ""),
        ("bedrock-runtime", "chat_completions", "/openai/v1"),
        ("bedrock-runtime", "responses", "/openai/v1"),
        ("bedrock-runtime", "messages", "/anthropic/v1"),
        ("bedrock-mantle", "chat_completions", "/v1"),
        ("bedrock-mantle", "chat_completions", "/openai/v1"),
        ("bedrock-mantle", "responses", "/v1"),
        ("bedrock-mantle", "responses", "/openai/v1"),
        ("bedrock-mantle", "messages", "/anthropic/v1"),
    }
    for model in MODELS.values():
        if model.mantle is None:
            continue
        on_openai = model.mantle.model_id.startswith(
            ("openai.gpt-5", "openai.gpt-6", "google.gemma-4", "xai.")
        )
        assert (model.mantle.path_prefix == "/openai/v1") == on_openai
        assert (model.mantle.path_prefix == "/anthropic/v1") == (model.vendor == "Anthropic")


def test_a_profile_is_offered_only_in_its_geography() -> None:
    starts = {
        "us": ("us-", "ca-"), "ca": ("ca-",), "eu": ("eu-", "il-"), "jp": ("ap-northeast-",),
        "au": ("ap-southeast-",), "in": ("ap-south-",), "apac": ("ap-",), "global": ("",),
    }  # fmt: skip
    for model in MODELS.values():
        for region, targets in model.targets.items():
            for target in targets:
                if catalogue.kind_of(target) == INFERENCE_PROFILE:
                    prefix, bare = target.split(".", 1)
                    assert bare == model.api_model_id
                    assert region.startswith(starts[prefix]), target


def test_regions_are_regions_of_the_catalogue() -> None:
    assert {r for m in MODELS.values() for r in m.regions} <= set(CATALOGUE.regions)
