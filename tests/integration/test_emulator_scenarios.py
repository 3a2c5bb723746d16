"""Scenarios: every effect as real boto3 sees it, determinism, and what is said about files that are
wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fnmatch import fnmatchcase
from typing import Any

import pytest
import urllib3.exceptions
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EventStreamError,
    ReadTimeoutError,
)

from certification.bedrock import catalogue
from certification.bedrock.client import Bedrock
from certification.bedrock.connection import EMULATOR, Connection
from certification.bedrock.errors import BedrockError
from certification.emulator import scenario
from certification.emulator.scenario import Call, FaultInjector, ScenarioError
from certification.inference import Request, user
from certification.reasons import Reason
from certification.stack import processes
from tests import calls
from tests.emulators import (
    MICRO,
    SONNET,
    US_SONNET,
    Probe,
    call_converse,
    post,
    stream,
    streamed_text,
    text_of,
    user_messages,
)

LITE = "amazon.nova-lite-v1:0"
TOOLS = {
    "tools": [
        {
            "toolSpec": {
                "name": "f",
                "inputSchema": {
                    "json": {
                        "type": "object",
                        "properties": {"a": {"type": "integer"}},
                        "required": ["a"],
                    }
                },
            }
        }
    ],
    "toolChoice": {"any": {}},
}
CAPITAL = "What is the capital of Portugal? (ref 0000002a-G03-0-0)"


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    with processes.emulator(seed=7) as (url, _process):
        probe = Probe(url)
        yield probe
        probe.close()


@pytest.fixture(autouse=True)
def _healthy(probe: Probe) -> None:
    probe.scenario("")


def rule(probe: Probe, effect: str, model: str = MICRO) -> None:
    probe.scenario(f'[[rule]]\nmodel = "{model}"\n{effect}')


def refused(probe: Probe, **more: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call_converse(probe, **more)
    response = caught.value.response
    return (
        response["Error"]["Code"],
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Message"],
    )


# Effects that end a call


@pytest.mark.parametrize(
    ("effect", "code", "status", "expected"),
    [
        (
            'access = "iam"',
            "AccessDeniedException",
            403,
            "because no identity-based policy allows the bedrock:InvokeModel",
        ),
        (
            'access = "iam_deny"',
            "AccessDeniedException",
            403,
            "with an explicit deny in an identity-based policy",
        ),
        (
            'access = "scp"',
            "AccessDeniedException",
            403,
            "with an explicit deny in a service control policy",
        ),
        ('access = "api_key"', "AccessDeniedException", 403, "bedrock:CallWithBearerToken"),
        (
            'access = "marketplace"',
            "AccessDeniedException",
            403,
            "aws-marketplace:ViewSubscriptions",
        ),
        ('access = "payment"', "AccessDeniedException", 403, "INVALID_PAYMENT_INSTRUMENT"),
        (
            'access = "use_case_form"',
            "ResourceNotFoundException",
            404,
            "use case details have not been submitted",
        ),
        (
            'access = "not_granted"',
            "AccessDeniedException",
            403,
            "You don't have access to the model",
        ),
        (
            'access = "agreement"',
            "AccessDeniedException",
            403,
            "does not have an agreement to this model",
        ),
        ('access = "account_blocked"', "ValidationException", 400, "Operation not allowed"),
        (
            'access = "country"',
            "ValidationException",
            400,
            "unsupported countries, regions, or territories",
        ),
        ("legacy = true", "ResourceNotFoundException", 404, "marked by provider as Legacy"),
        ("end_of_life = true", "ResourceNotFoundException", 404, "has reached the end of its life"),
        (
            "not_in_region = true",
            "ValidationException",
            400,
            "The provided model identifier is invalid.",
        ),
        (
            "needs_profile = true",
            "ValidationException",
            400,
            "with on-demand throughput isn’t supported",
        ),
        ('throttle = "requests"', "ThrottlingException", 429, "Too many requests"),
        ('throttle = "tokens"', "ThrottlingException", 429, "Too many tokens, please wait"),
        ('throttle = "daily"', "ThrottlingException", 429, "Too many tokens per day"),
        ('throttle = "zero_quota"', "ThrottlingException", 429, "Too many tokens per day"),
        ('throttle = "connections"', "ServiceUnavailableException", 503, "Too many connections"),
        (
            "error = 408",
            "ModelTimeoutException",
            408,
            "Model has timed out in processing the request.",
        ),
        ("error = 424", "ModelErrorException", 424, "invalid sequence as part of ToolUse"),
        ("error = 429", "ModelNotReadyException", 429, "not ready for inference"),
        ("error = 500", "InternalServerException", 500, "unexpected error during processing"),
        (
            "error = 503",
            "ServiceUnavailableException",
            503,
            "Bedrock is unable to process your request.",
        ),
        ("html_503 = true", "503", 503, "Service Unavailable"),
        (
            "expired_credentials = true",
            "ExpiredTokenException",
            403,
            "token included in the request is expired",
        ),
        (
            "invalid_credentials = true",
            "UnrecognizedClientException",
            403,
            "token included in the request is invalid.",
        ),
        ("clock_skew = true", "InvalidSignatureException", 403, "Signature expired"),
    ],
)
def test_an_effect_refuses_as_the_service_does_and_only_where_it_applies(
    probe: Probe, effect: str, code: str, status: int, expected: str
) -> None:
    rule(probe, effect)
    refusal = refused(probe)
    assert refusal[:2] == (code, status)
    assert expected in refusal[2]
    if "credentials" not in effect and "clock" not in effect:
        assert call_converse(probe, model=LITE)["stopReason"] == "end_turn"
    assert probe.page("/_emulator/stats")["byOutcome"].keys() >= {
        code if "html" not in effect else "html_503"
    }


def test_the_authorisation_layer_writes_message_with_a_capital(probe: Probe) -> None:
    for effect, member in (
        ('access = "iam"', b'{"Message":'),
        ('access = "agreement"', b'{"message":'),
    ):
        rule(probe, effect)
        body = json.dumps({"messages": user_messages("Hi")}).encode()
        assert probe.raw(post(body)).partition(b"\r\n\r\n")[2].startswith(member)


def test_a_profile_still_works_where_on_demand_was_withdrawn(probe: Probe) -> None:
    rule(probe, "needs_profile = true")
    assert call_converse(probe, model=f"us.{MICRO}")["stopReason"] == "end_turn"


def test_a_denied_stream_names_the_streaming_action(probe: Probe) -> None:
    rule(probe, 'access = "iam"')
    with pytest.raises(ClientError, match="bedrock:InvokeModelWithResponseStream on resource"):
        stream(probe)


def test_an_invalid_request_is_refused_before_the_service_fails(probe: Probe) -> None:
    rule(probe, "error = 500")
    assert refused(probe, inferenceConfig={"maxTokens": 0})[0] == "ValidationException"


def test_expired_credentials_hit_the_listings_too(probe: Probe) -> None:
    probe.scenario("[[rule]]\nexpired_credentials = true")
    for call in (
        probe.client("bedrock").list_foundation_models,
        probe.client("sts").get_caller_identity,
    ):
        with pytest.raises(ClientError, match="expired"):
            call()


def test_an_empty_200_is_a_success_without_content(probe: Probe) -> None:
    rule(probe, "empty_200 = true")
    answer = call_converse(probe)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "output" not in answer


def test_a_reset_connection_brings_no_byte(probe: Probe) -> None:
    rule(probe, "reset = true")
    with pytest.raises(ConnectionClosedError):
        call_converse(probe)


def test_a_hung_call_ends_by_the_clients_own_timeout(probe: Probe) -> None:
    rule(probe, "hang = true")
    with pytest.raises(ReadTimeoutError):
        probe.client(read_timeout=0.3).converse(modelId=MICRO, messages=user_messages("Hi"))


def test_hung_calls_do_not_keep_others_waiting(probe: Probe) -> None:
    rule(probe, "hang = true")
    client = probe.client(read_timeout=1)
    with ThreadPoolExecutor(8) as pool:
        hung = [
            pool.submit(client.converse, modelId=MICRO, messages=user_messages("Hi"))
            for _ in range(8)
        ]
        assert call_converse(probe, model=LITE)["stopReason"] == "end_turn"
        assert all(isinstance(call.exception(), ReadTimeoutError) for call in hung)


# Streams that began well


def test_a_truncated_stream_just_ends(probe: Probe) -> None:
    rule(probe, 'stream = "truncated"')
    names = {next(iter(event)) for event in stream(probe)}
    assert "contentBlockDelta" in names
    assert not names & {"messageStop", "metadata"}


@pytest.mark.parametrize("code", scenario.STREAM_ERRORS)
def test_an_error_in_the_middle_comes_as_an_event(probe: Probe, code: str) -> None:
    rule(probe, f'stream = "mid_stream_error"\nstream_error = "{code}"')
    events = probe.client().converse_stream(modelId=MICRO, messages=user_messages("Hi"))["stream"]
    replies = []
    with closing(events), pytest.raises(EventStreamError) as caught:
        replies.extend(events)
    assert replies
    assert caught.value.response["Error"]["Code"] == code


def test_a_corrupted_frame_fails_its_checksum(probe: Probe) -> None:
    rule(probe, 'stream = "corrupted_frame"')
    events = probe.client().converse_stream(modelId=MICRO, messages=user_messages("Hi"))["stream"]
    with closing(events), pytest.raises(ChecksumMismatch):
        list(events)


def test_a_stalled_stream_falls_silent(probe: Probe) -> None:
    rule(probe, 'stream = "stall"')
    events = probe.client(read_timeout=2).converse_stream(
        modelId=MICRO, messages=user_messages("Hi")
    )["stream"]
    # botocore lets urllib3's own error through once a stream has begun.
    with closing(events), pytest.raises(urllib3.exceptions.ReadTimeoutError):
        list(events)


def test_stream_troubles_leave_whole_answers_alone(probe: Probe) -> None:
    rule(probe, 'stream = "truncated"')
    assert call_converse(probe)["stopReason"] == "end_turn"


# Models that misbehave


def tool_input(events: list[Any]) -> str:
    deltas = [e["contentBlockDelta"]["delta"] for e in events if "contentBlockDelta" in e]
    return "".join(d["toolUse"]["input"] for d in deltas if "toolUse" in d)


def test_tools_break_only_when_streamed(probe: Probe) -> None:
    rule(probe, "tools_broken_streaming = true")
    assert call_converse(probe, toolConfig=TOOLS)["output"]["message"]["content"][0]["toolUse"][
        "input"
    ] == {"a": 1}
    raw = tool_input(stream(probe, toolConfig=TOOLS))
    assert raw
    with pytest.raises(ValueError):
        json.loads(raw)


def test_a_tool_call_may_come_as_text_when_streamed(probe: Probe) -> None:
    rule(probe, 'tools_broken_streaming = "text"')
    events = stream(probe, toolConfig=TOOLS)
    assert tool_input(events) == ""
    assert "<tool_call>" in streamed_text(events)
    assert {"messageStop": {"stopReason": "end_turn"}} in events


def test_stop_sequences_may_be_refused_or_ignored(probe: Probe) -> None:
    stops = {"stopSequences": ["Bedrock"]}
    rule(probe, "no_stop_sequences = true")
    assert "doesn't support the stopSequences field" in refused(probe, inferenceConfig=stops)[2]
    rule(probe, "ignores_stop_sequences = true")
    assert "Bedrock" in text_of(call_converse(probe, inferenceConfig=stops))


def test_template_tokens_leak_into_the_text(probe: Probe) -> None:
    rule(probe, "leaks_template_tokens = true")
    assert text_of(call_converse(probe)).startswith("<|im_start|>assistant\n")


def test_max_tokens_may_be_ignored(probe: Probe) -> None:
    rule(probe, "ignores_max_tokens = true")
    answer = call_converse(probe, inferenceConfig={"maxTokens": 5})
    assert answer["usage"]["outputTokens"] > 5
    assert answer["stopReason"] == "end_turn"
    story = call_converse(
        probe, "Write a story (ref 0000002a-G04-0-0)", inferenceConfig={"maxTokens": 96}
    )
    assert story["usage"]["outputTokens"] > 150


def test_a_system_prompt_may_be_ignored(probe: Probe) -> None:
    prompt = "Name a fruit (ref 0000002a-G06-0-0)"
    system = [{"text": "End with the code."}]
    good = text_of(call_converse(probe, prompt, system=system))
    rule(probe, "ignores_system = true")
    assert text_of(call_converse(probe, prompt, system=system)) != good


def test_slowness_multiplies_what_a_model_takes() -> None:
    with processes.emulator(time_scale=0.02) as (url, _process):
        probe = Probe(url)
        normal = call_converse(probe)["metrics"]["latencyMs"]
        rule(probe, "slow = 20")
        assert call_converse(probe)["metrics"]["latencyMs"] > 10 * normal
        probe.close()


# Weakness, and the same answers for the same seed


def verdicts(
    probe: Probe, case: str = "G03", region: str = "us-east-1", count: int = 60
) -> list[bool]:
    """Which of many trials a model gets right: near answers of G03 stop for another reason."""
    prompts = [f"Question (ref 0000{i:04x}-{case}-0-0)" for i in range(count)]
    return [
        call_converse(probe, prompt, model=f"global.{SONNET}", region=region)["stopReason"]
        == "end_turn"
        for prompt in prompts
    ]


def weak(category: str, accuracy: float) -> str:
    return f"[[rule]]\nweak = {{ category = '{category}', accuracy = {accuracy} }}"


def test_a_weak_model_is_right_about_as_often_as_it_should(probe: Probe) -> None:
    probe.scenario(weak("contract", 0.5))
    assert 15 <= sum(verdicts(probe)) <= 45
    probe.scenario(weak("contract", 0.0))
    assert sum(verdicts(probe)) == 0
    probe.scenario(weak("contract", 1.0))
    assert all(verdicts(probe))


def test_weakness_keeps_to_its_category(probe: Probe) -> None:
    probe.scenario(weak("portuguese", 0.0))
    assert all(verdicts(probe))


def test_the_same_seed_gives_the_same_answers_in_any_order_and_any_process(probe: Probe) -> None:
    probe.scenario(weak("*", 0.5))
    first = verdicts(probe)
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda _: verdicts(probe), range(4)))
    assert again == [first] * 4
    with processes.emulator(seed=7) as (url, _process):
        other = Probe(url)
        other.scenario(weak("*", 0.5))
        assert verdicts(other) == first
        other.close()


def test_regions_and_seeds_draw_on_their_own(probe: Probe) -> None:
    probe.scenario(weak("*", 0.5))
    here = verdicts(probe)
    assert verdicts(probe, region="eu-west-1") != here
    with processes.emulator(seed=8) as (url, _process):
        other = Probe(url)
        other.scenario(weak("*", 0.5))
        assert verdicts(other) != here
        other.close()


def test_the_whole_answer_is_the_same_again(probe: Probe) -> None:
    def everything() -> tuple[Any, ...]:
        answers = [
            call_converse(probe, CAPITAL),
            call_converse(probe, toolConfig=TOOLS),
            call_converse(probe, model=US_SONNET),
        ]
        streams = [stream(probe, CAPITAL), stream(probe, toolConfig=TOOLS)]
        bodies = [
            {k: v for k, v in answer.items() if k != "ResponseMetadata"} for answer in answers
        ]
        return bodies, streams

    assert everything() == everything()


# When a rule applies


def test_times_and_after_count_the_calls_of_a_model_in_a_region(probe: Probe) -> None:
    probe.scenario('[[rule]]\nafter = 1\ntimes = 2\nthrottle = "requests"')

    def outcome(**more: Any) -> str:
        try:
            return str(call_converse(probe, **more)["stopReason"])
        except ClientError as error:
            return str(error.response["Error"]["Code"])

    throttled = "ThrottlingException"
    assert [outcome() for _ in range(5)] == [
        "end_turn",
        throttled,
        throttled,
        "end_turn",
        "end_turn",
    ]
    assert outcome(model=LITE) == "end_turn"
    assert outcome(model=f"eu.{MICRO}", region="eu-west-1") == "end_turn"
    assert outcome(model=LITE) == throttled


def test_a_failure_by_chance_may_pass_when_tried_again(probe: Probe) -> None:
    probe.scenario("[[rule]]\nprobability = 0.5\nerror = 503")

    def attempt() -> bool:
        try:
            return bool(call_converse(probe))
        except ClientError:
            return False

    tries = [attempt() for _ in range(40)]
    assert 8 <= sum(tries) <= 32
    probe.page("/_emulator/reset", b"")
    assert [attempt() for _ in range(40)] == tries


def test_routes_and_regions_are_matched_by_globs(probe: Probe) -> None:
    probe.scenario(
        '[[rule]]\nroute = "global.*"\naccess = "scp"\n[[rule]]\nregion = "eu-*"\nerror = 500'
    )
    assert refused(probe, model=f"global.{SONNET}")[0] == "AccessDeniedException"
    assert call_converse(probe, model=US_SONNET)["stopReason"] == "end_turn"
    assert refused(probe, model=f"eu.{SONNET}", region="eu-west-1")[0] == "InternalServerException"
    probe.scenario('[[rule]]\nroute = "ON_DEMAND"\nerror = 500')
    assert refused(probe)[0] == "InternalServerException"
    assert call_converse(probe, model=US_SONNET)["stopReason"] == "end_turn"


def test_the_first_rule_that_ends_a_call_decides(probe: Probe) -> None:
    probe.scenario('[[rule]]\nslow = 2\n[[rule]]\nerror = 500\n[[rule]]\nthrottle = "daily"')
    assert refused(probe)[0] == "InternalServerException"


def director(text: str, now: list[float]) -> FaultInjector:
    return FaultInjector(scenario.parse(text), seed=0, clock=lambda: now[0])


def test_a_token_bucket_empties_and_fills_up_again_for_each_route() -> None:
    now = [1000.0]
    rules = director("[[rule]]\ntokens_per_minute = 600", now)
    here = Call("Converse", MICRO, "us-east-1", "ON_DEMAND", MICRO)
    elsewhere = Call("Converse", MICRO, "us-east-1", "INFERENCE_PROFILE", f"us.{MICRO}")
    assert [rules.faults(here, 1, 250).throttle for _ in range(3)] == ["", "", "tokens"]
    assert rules.faults(elsewhere, 1, 250).throttle == ""
    now[0] += 20
    assert rules.faults(here, 1, 250).throttle == ""
    assert rules.faults(here, 1, 250).throttle == "tokens"


def test_a_token_bucket_reserves_max_tokens(probe: Probe) -> None:
    probe.scenario("[[rule]]\ntokens_per_minute = 5000")
    call_converse(probe, inferenceConfig={"maxTokens": 3000})
    assert refused(probe, inferenceConfig={"maxTokens": 3000})[2].startswith(
        "Too many tokens, please wait"
    )


def test_keys_named_in_the_scenario_are_refused(probe: Probe) -> None:
    probe.scenario('[credentials]\nexpired = ["AKIAOLD*"]\ninvalid = ["AKIAWRONG"]')
    for key, code in (
        ("AKIAOLD7", "ExpiredTokenException"),
        ("AKIAWRONG", "UnrecognizedClientException"),
    ):
        with pytest.raises(ClientError) as caught:
            probe.client(key=key).converse(modelId=MICRO, messages=user_messages("Hi"))
        assert caught.value.response["Error"]["Code"] == code


# Files


@pytest.mark.parametrize(
    "path", sorted(scenario.SCENARIOS.glob("*.toml")), ids=lambda path: path.stem
)
def test_every_shipped_scenario_is_valid_and_described(path: Any) -> None:
    shipped = scenario.load(path.stem)
    assert shipped.name == path.stem
    assert shipped.description


def test_the_default_scenario_only_names_what_exists() -> None:
    models, regions = catalogue.load().models.values(), catalogue.load().regions
    for one in scenario.load("default").rules:
        hit = [m for m in models if fnmatchcase(m.api_model_id, one.model)]
        assert any(
            fnmatchcase(region, one.region) and m.targets.get(region)
            for m in hit
            for region in regions
        ), one
        assert not fnmatchcase(MICRO, one.model)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[rule]", "f.toml: not valid TOML"),
        (
            "banana = 1",
            "f.toml: unknown key `banana` in the file; allowed: name, description, credentials, "
            "rule.",
        ),
        (
            "[[rule]]\nbanana = 1",
            "f.toml: unknown key `banana` in rule 1; allowed: model, region, operation",
        ),
        ("[[rule]]\nmodel = 'x'", "f.toml: rule 1 has no effect; add one of: access"),
        (
            "[[rule]]\naccess = 'banana'",
            "f.toml: `rule 1: access` is 'banana'; allowed: iam, iam_deny, scp",
        ),
        (
            "[[rule]]\nerror = 500\n[[rule]]\nerror = 418",
            "f.toml: `rule 2: error` is 418; allowed: 408, 424, 429, 500, 503, 529.",
        ),
        ("[[rule]]\nerror = true", "f.toml: `rule 1: error` is True; allowed: 408, 424"),
        (
            "[[rule]]\nstream = 1",
            "f.toml: `rule 1: stream` is 1; allowed: truncated, mid_stream_error, corrupted_frame",
        ),
        ("[[rule]]\nlegacy = 'yes'", "f.toml: `rule 1: legacy` is 'yes'; allowed: true, false."),
        (
            "[[rule]]\nhang = true\ntimes = 0",
            "f.toml: `rule 1: times` is 0; allowed: a whole number from 1 or more.",
        ),
        (
            "[[rule]]\nhang = true\nprobability = 2",
            "f.toml: `rule 1: probability` is 2; allowed: a number from 0 to 1.",
        ),
        (
            "[[rule]]\nslow = 0",
            "f.toml: `rule 1: slow` is 0; allowed: a number from 0.01 to 10000.",
        ),
        ("[[rule]]\nweak = 0.5", "f.toml: `rule 1: weak` is 0.5; allowed: a table."),
        (
            "[[rule]]\nweak = {category = 'x'}",
            "f.toml: `rule 1: weak.category` is 'x'; allowed: *, tools, json",
        ),
        ("[[rule]]\nmodel = 3\nhang = true", "f.toml: `rule 1: model` is 3; allowed: a text."),
        (
            "[credentials]\nexpired = 'x'",
            "f.toml: `credentials.expired` is 'x'; allowed: a list of texts.",
        ),
        ("rule = 3", "f.toml: `rule` must be an array of tables: write [[rule]]."),
        ("rule = [3]", "f.toml: `rule 1` is 3; allowed: a table."),
    ],
)
def test_an_error_names_file_key_and_what_is_allowed(text: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario.parse(text, "f.toml")
    assert str(caught.value).startswith(expected)


def test_a_scenario_may_be_a_path(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[rule]]\nhang = true")
    assert scenario.load(str(path)).name == "mine"
    with pytest.raises(ScenarioError, match="one of: access, "):
        scenario.load(str(tmp_path / "other.toml"))


def test_every_refused_access_is_diagnosed_as_what_it_is(probe: Probe) -> None:
    """The emulator's words and our own diagnosis agree."""
    expected = {
        "iam": Reason.IAM_DENIED,
        "iam_deny": Reason.IAM_DENIED,
        "scp": Reason.SCP_DENIED,
        "api_key": Reason.API_KEY_DENIED,
        "marketplace": Reason.MARKETPLACE_SUBSCRIPTION,
        "payment": Reason.PAYMENT_INSTRUMENT,
        "use_case_form": Reason.USE_CASE_FORM,
        "not_granted": Reason.MODEL_ACCESS_NOT_GRANTED,
        "agreement": Reason.MARKETPLACE_SUBSCRIPTION,
        "account_blocked": Reason.ACCOUNT_BLOCKED,
        "country": Reason.COUNTRY_NOT_SUPPORTED,
    }
    bedrock = Bedrock(Connection(EMULATOR, probe.url))
    diagnosed = {}
    for kind in expected:
        rule(probe, f'access = "{kind}"')
        with pytest.raises(BedrockError) as caught:
            calls.converse(bedrock, "us-east-1", MICRO, Request((user("Hi"),), 50))
        diagnosed[kind] = caught.value.reason
    bedrock.close()
    assert diagnosed == expected
