"""Each vendor's own requests and answers for embeddings, as its documentation has them, through the
client over HTTP.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from certification.bedrock import catalogue, embeddings, errors
from certification.bedrock.client import Bedrock
from certification.bedrock.connection import EMULATOR, Connection
from certification.inference import EmbedRequest, Usage
from certification.reasons import Reason
from certification.stack import processes
from tests import calls, replay
from tests.replay import Recorded, Replay

V1, V2, IMAGE = (
    "amazon.titan-embed-text-v1",
    "amazon.titan-embed-text-v2:0",
    "amazon.titan-embed-image-v1",
)
COHERE_3, COHERE_4 = "cohere.embed-english-v3", "cohere.embed-v4:0"
NOVA = "amazon.nova-2-multimodal-embeddings-v1:0"
MARENGO_2, MARENGO_3 = "twelvelabs.marengo-embed-2-7-v1:0", "twelvelabs.marengo-embed-3-0-v1:0"
FAMILIES = (V1, V2, IMAGE, COHERE_3, COHERE_4, NOVA, MARENGO_2, MARENGO_3)


def nova(text: str, **size: int) -> dict[str, Any]:
    params = {
        "embeddingPurpose": "GENERIC_INDEX",
        "text": {"truncationMode": "END", "value": text},
        **size,
    }
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}


def cohere(*texts: str, **more: Any) -> dict[str, Any]:
    return {"texts": list(texts), "input_type": "search_document", **more}


@pytest.fixture(scope="module")
def server() -> Iterator[Replay]:
    yield from replay.serve()


@pytest.fixture(scope="module")
def bedrock(server: Replay) -> Iterator[Bedrock]:
    client = Bedrock(Connection(EMULATOR, server.url))
    yield client
    client.close()


def answer(body: Any, **headers: str) -> Recorded:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Recorded(
        "/", 200, {"content-type": "application/json", "x-amzn-requestid": "r-1", **named}, data
    )


@pytest.mark.parametrize(
    ("model", "dimensions", "body"),
    [
        (V1, None, {"inputText": "Hi"}),
        (V1, 512, {"inputText": "Hi"}),
        ("amazon.titan-embed-text-v1:2:8k", 512, {"inputText": "Hi"}),
        ("amazon.titan-embed-g1-text-02", 512, {"inputText": "Hi"}),
        (V2, None, {"inputText": "Hi"}),
        (V2, 512, {"inputText": "Hi", "dimensions": 512}),
        (f"us.{V2}", 256, {"inputText": "Hi", "dimensions": 256}),
        (IMAGE, None, {"inputText": "Hi"}),
        (IMAGE, 384, {"inputText": "Hi", "embeddingConfig": {"outputEmbeddingLength": 384}}),
        (COHERE_3, None, cohere("Hi")),
        ("cohere.embed-multilingual-v3", 512, cohere("Hi")),
        (COHERE_4, None, cohere("Hi", embedding_types=["float"])),
        (f"global.{COHERE_4}", 512, cohere("Hi", embedding_types=["float"], output_dimension=512)),
        (NOVA, None, nova("Hi")),
        (NOVA, 384, nova("Hi", embeddingDimension=384)),
        (MARENGO_2, 512, {"inputType": "text", "inputText": "Hi"}),
        (f"us.{MARENGO_2}", None, {"inputType": "text", "inputText": "Hi"}),
        (MARENGO_3, None, {"inputType": "text", "text": {"inputText": "Hi"}}),
        (
            f"arn:aws:bedrock:us-east-1::foundation-model/{MARENGO_3}",
            512,
            {"inputType": "text", "text": {"inputText": "Hi"}},
        ),
    ],
)
def test_each_vendor_gets_its_own_request_body(
    server: Replay, bedrock: Bedrock, model: str, dimensions: int | None, body: dict[str, Any]
) -> None:
    vectors = {"embedding": [1.0], "embeddings": [[1.0]], "data": [{"embedding": [1.0]}]}
    server.answer(answer(vectors))
    calls.embed(bedrock, "us-east-1", model, EmbedRequest(("Hi",), dimensions))
    (request,) = server.requests
    assert json.loads(request.body) == body
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("model", "body", "vector"),
    [
        (V1, {"embedding": [0.5, -1], "inputTextTokenCount": 3}, (0.5, -1.0)),
        (
            V2,
            {"embedding": [0.5], "embeddingsByType": {"float": [0.5]}, "inputTextTokenCount": 3},
            (0.5,),
        ),
        (
            V2,
            {"embeddingsByType": {"float": [0.5], "binary": [1]}, "inputTextTokenCount": 3},
            (0.5,),
        ),
        (IMAGE, {"embedding": [1e-9], "inputTextTokenCount": 3, "message": None}, (1e-9,)),
        (
            COHERE_3,
            {
                "id": "1",
                "texts": ["hi"],
                "embeddings": [[0.5]],
                "response_type": "embeddings_floats",
            },
            (0.5,),
        ),
        (
            COHERE_4,
            {"embeddings": {"float": [[0.5]]}, "response_type": "embeddings_by_type", "texts": []},
            (0.5,),
        ),
        (
            COHERE_4,
            {
                "embeddings": {"int8": [[1]], "float": [[0.5]]},
                "response_type": "embeddings_by_type",
            },
            (0.5,),
        ),
        (COHERE_4, {"embeddings": [[0.5]], "response_type": "embeddings_floats"}, (0.5,)),
        (
            NOVA,
            {
                "embeddings": [
                    {"embeddingType": "TEXT", "embedding": [0.5], "truncatedCharLength": 9}
                ]
            },
            (0.5,),
        ),
        (
            MARENGO_2,
            {"data": [{"embedding": [0.5], "embeddingOption": None, "startSec": None}]},
            (0.5,),
        ),
        (MARENGO_3, {"data": [{"embedding": [0.5]}]}, (0.5,)),
        (MARENGO_3, {"data": {"embedding": [0.5]}}, (0.5,)),
    ],
)
def test_each_vendors_response_is_read(
    server: Replay, bedrock: Bedrock, model: str, body: dict[str, Any], vector: tuple[float, ...]
) -> None:
    server.answer(answer(body, x_amzn_bedrock_input_token_count="3"))
    reply = calls.embed(bedrock, "us-east-1", model, EmbedRequest(("Hi",)))
    assert reply.vectors == (vector,)
    assert all(type(x) is float for x in reply.vectors[0])
    assert reply.usage == Usage(3, 0, 3)
    assert reply.request_id == "r-1"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        "text",
        5,
        b"",
        b"<html>",
        b"\xff",
        b'{"embedding": [0.5',
        {"embedding": []},
        {"embedding": None},
        {"embedding": "0.5"},
        {"embedding": ["a"]},
        {"embedding": [None]},
        {"embedding": [True]},
        {"embedding": {}},
        {"embedding": [[0.5]]},
        {"embeddings": [[0.5], [0.5]]},
        {"embeddings": []},
        {"embeddings": [{}]},
        {"embeddings": {"float": "x"}},
        {"embeddings": {"int8": [[1]]}},
        {"data": [5]},
        {"data": {"x": 1}},
        {"embeddingsByType": 5},
        {"message": "Something went wrong."},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [V2, COHERE_4])
def test_a_response_without_the_requested_vectors_is_a_bad_response(
    server: Replay, bedrock: Bedrock, model: str, body: Any
) -> None:
    server.answer(answer(body))
    with pytest.raises(errors.ServiceFailed) as caught:
        calls.embed(bedrock, "us-east-1", model, EmbedRequest(("Hi",)))
    error = caught.value
    assert (error.reason, error.http_status, error.request_id) == (Reason.BAD_RESPONSE, 200, "r-1")


def test_texts_go_one_by_one_where_the_vendor_accepts_no_batches(
    server: Replay, bedrock: Bedrock
) -> None:
    server.answer(*(answer({"embedding": [n], "inputTextTokenCount": n}) for n in (1, 2, 3)))
    reply = calls.embed(bedrock, "us-east-1", V2, EmbedRequest(("a", "b", "c")))
    assert reply.vectors == ((1.0,), (2.0,), (3.0,))
    assert reply.usage == Usage(6, 0, 6)
    assert [json.loads(request.body)["inputText"] for request in server.requests] == ["a", "b", "c"]


def test_a_batch_is_no_larger_than_the_vendor_accepts(server: Replay, bedrock: Bedrock) -> None:
    texts = tuple(str(n) for n in range(100))
    parts = [texts[:96], texts[96:]]
    server.answer(*(answer({"embeddings": [[int(t)] for t in part]}) for part in parts))
    reply = calls.embed(bedrock, "us-east-1", COHERE_3, EmbedRequest(texts))
    assert reply.vectors == tuple((float(t),) for t in texts)
    assert [json.loads(request.body)["texts"] for request in server.requests] == [
        list(part) for part in parts
    ]


def test_no_texts_need_no_call(server: Replay, bedrock: Bedrock) -> None:
    server.answer(answer({}))
    assert calls.embed(bedrock, "us-east-1", V2, EmbedRequest(())).vectors == ()
    assert server.requests == []


@pytest.mark.parametrize("headers", [{}, {"x_amzn_bedrock_input_token_count": "many"}])
def test_without_a_count_there_is_no_usage(
    server: Replay, bedrock: Bedrock, headers: dict[str, str]
) -> None:
    server.answer(answer({"embeddings": [[0.5]]}, **headers))
    assert calls.embed(bedrock, "us-east-1", COHERE_4, EmbedRequest(("Hi",))).usage is None


@pytest.mark.parametrize(
    "model", ["vendor.new-embedding-v1:0", "amazon.nova-micro-v1:0", "anthropic.claude-sonnet-5"]
)
def test_an_unknown_family_is_never_called(server: Replay, bedrock: Bedrock, model: str) -> None:
    server.answer(answer({}))
    with pytest.raises(errors.Misconfigured, match=model) as caught:
        calls.embed(bedrock, "us-east-1", model, EmbedRequest(("Hi",)))
    assert caught.value.reason is Reason.CLIENT_MISCONFIGURED
    assert server.requests == []


def test_every_family_works_against_the_emulator() -> None:
    sizes = {}
    with (
        processes.emulator() as (url, _process),
        contextlib.closing(Bedrock(Connection(EMULATOR, url))) as bedrock,
    ):
        for model in FAMILIES:
            routes = catalogue.load().models[model].targets["us-east-1"]
            target = model if catalogue.ON_DEMAND in routes else routes[0]
            reply = calls.embed(bedrock, "us-east-1", target, EmbedRequest(("one", "two", "one")))
            assert reply.vectors[0] == reply.vectors[2] != reply.vectors[1], model
            sizes[model] = len(reply.vectors[0])
    assert sizes == {
        V1: 1536,
        V2: 1024,
        IMAGE: 1024,
        COHERE_3: 1024,
        COHERE_4: 1536,
        NOVA: 3072,
        MARENGO_2: 1024,
        MARENGO_3: 512,
    }


def test_every_embedding_model_of_the_catalogue_has_its_family() -> None:
    listed = {
        m.api_model_id
        for m in catalogue.load().models.values()
        if "EMBEDDING" in m.output_modalities
    }
    assert listed >= set(FAMILIES)
    for model in listed:
        assert json.loads(embeddings.body(model, ("Hi",), None))
