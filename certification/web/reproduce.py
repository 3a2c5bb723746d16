"""A stored call as somebody can make it again: for the AWS CLI, in Python, and its JSON alone.

Neither holds credentials: both take those of whoever runs them. What was stored has secrets masked
and long texts cut; pictures and documents are not stored at all.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from certification.bedrock.dialects import converse
from certification.bedrock.embeddings import body as embedding_body
from certification.bedrock.errors import BedrockError
from certification.inference import (
    API,
    Block,
    Document,
    Image,
    Message,
    Operation,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)

CUT_MARK = " more characters]"  # how `evidence.cut` ends a text that it cut


class Copy(NamedTuple):
    """One form of a call: "cli", "python" or "json", and its text."""

    kind: str
    text: str


def copies(call: Mapping[str, Any], region: str) -> list[Copy]:
    """Return the forms of a stored call; none for one whose stored form is another."""
    target = call.get("route")
    request = call.get("request")
    if not isinstance(request, dict) or not isinstance(target, str) or not target:
        return []
    try:
        if request.get("operation") == Operation.EMBED:
            return embedding_copies(request, target, region)
        if call.get("api") == API.CONVERSE:
            return converse_copies(request_from(request), target, region)
    except (BedrockError, LookupError, TypeError, ValueError, AttributeError):
        return []
    return [Copy("json", pretty(request))]


def converse_copies(request: Request, target: str, region: str) -> list[Copy]:
    """Return the forms of a Converse call. The AWS CLI has no streams: it makes the same call
    without one.
    """
    body = converse.body_of(request, target)
    is_stream = request.operation == Operation.STREAM
    cli = (
        f"aws bedrock-runtime converse --region {shlex.quote(region)} "
        f"--model-id {shlex.quote(target)} \\\n  --cli-input-json {shlex.quote(pretty(body))}"
    )
    method = "converse_stream" if is_stream else "converse"
    shown = (
        'for event in response["stream"]:\n    print(event)'
        if is_stream
        else 'print(json.dumps(response["output"], indent=2))'
    )
    python = (
        "import json\n\nimport boto3\n\n"
        f'client = boto3.client("bedrock-runtime", region_name={region!r})\n'
        f"body = json.loads({json.dumps(body)!r})\n"
        f"response = client.{method}(modelId={target!r}, **body)\n{shown}"
    )
    return [Copy("cli", cli), Copy("python", python), Copy("json", pretty(body))]


def embedding_copies(request: Mapping[str, Any], target: str, region: str) -> list[Copy]:
    """Return the forms of an InvokeModel call of an embedding model."""
    texts = tuple(map(str, request["texts"]))
    body = embedding_body(target, texts, request.get("dimensions"))
    cli = (
        f"aws bedrock-runtime invoke-model --region {shlex.quote(region)} "
        f"--model-id {shlex.quote(target)} \\\n  --cli-binary-format raw-in-base64-out "
        f"--body {shlex.quote(body)} /dev/stdout"
    )
    python = (
        "import json\n\nimport boto3\n\n"
        f'client = boto3.client("bedrock-runtime", region_name={region!r})\n'
        f"response = client.invoke_model(modelId={target!r}, body={body!r})\n"
        'print(json.loads(response["body"].read()))'
    )
    return [Copy("cli", cli), Copy("python", python), Copy("json", pretty(json.loads(body)))]


def request_from(stored: Mapping[str, Any]) -> Request:
    """Decode a request as `evidence.request` encodes it. Raises KeyError, TypeError or ValueError
    for another form.
    """
    options = ("tool_choice", "temperature", "top_p", "output_schema", "thinking_tokens")
    return Request(
        messages=tuple(
            Message(message["role"], tuple(map(block_from, message["content"])))
            for message in stored["messages"]
        ),
        max_tokens=int(stored["max_tokens"]),
        operation=Operation(stored["operation"]),
        system=stored.get("system", ""),
        stop_sequences=tuple(stored.get("stop_sequences", ())),
        tools=tuple(
            Tool(t["name"], t["description"], t["schema"]) for t in stored.get("tools", ())
        ),
        thinking_effort=stored.get("thinking_effort", ""),
        **{name: stored[name] for name in options if name in stored},
    )


def block_from(stored: Mapping[str, Any]) -> Block:
    """Decode a block; a picture or document without its data."""
    [(kind, value)] = stored.items()
    match kind:
        case "text":
            return Text(str(value))
        case "reasoning":
            return Reasoning(str(value))
        case "tool_use":
            return ToolUse(value["id"], value["name"], value.get("input"))
        case "tool_result":
            return ToolResult(value["id"], value["text"], bool(value.get("is_error")))
        case "image":
            return Image(value["format"], b"")
        case "document":
            return Document(value["format"], value["name"], b"")
    raise ValueError(kind)


def is_incomplete(call: Mapping[str, Any]) -> bool:
    """Return whether the stored request lacks something: a text that was cut, a picture, a
    document.
    """
    return any(lacks_content(value) for value in walk(call.get("request")))


def lacks_content(value: Any) -> bool:
    if isinstance(value, dict):
        return bool({"image", "document"} & set(value))
    return isinstance(value, str) and value.endswith(CUT_MARK)


def walk(value: Any) -> Sequence[Any]:
    """Return a JSON value and every value inside it."""
    if isinstance(value, dict):
        return [value, *(inner for member in value.values() for inner in walk(member))]
    if isinstance(value, list):
        return [value, *(inner for item in value for inner in walk(item))]
    return [value]


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
