"""JSON Schemas and patterns of operators: they lead nowhere, take bounded time, and escape with no
exception.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from certification.suite import custom, graders
from certification.suite.json_schema import DIALECT, first_violation, schema_error
from certification.suite.patterns import pattern_error
from tests.unit.test_graders import reply

CATASTROPHIC, SLOW_TEXT = "^(?:a|aa)+$", "a" * 50 + "!"


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server on this machine, and the paths that were requested of it."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "string"}')

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/latest/meta-data", paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema"])
def test_no_keyword_fetches_an_address(keyword: str, requests: tuple[str, list[str]]) -> None:
    address, paths = requests
    for schema in (
        {keyword: address},
        {"properties": {"const": {keyword: address}}, "$ref": "#/x", "x": {keyword: address}},
        {"$id": address, "$defs": {"a": {keyword: "b"}}, "$ref": "#/$defs/a"},
    ):
        assert schema_error(schema)
        assert "cannot be checked" in first_violation({"const": {}}, schema)
    assert not paths


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"$ref": "file:///etc/hostname"}, '"$ref" may only lead to a place in the schema itself'),
        ({"$ref": "other"}, "may only lead to a place in the schema itself"),
        ({"$ref": "#/$defs/no"}, "nothing in the schema is at the reference #/$defs/no"),
        ({"$ref": "#/a", "a": "text"}, "at the reference #/a is no schema"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "names another dialect"),
        ({"items": {"$schema": DIALECT}}, "may only be at the top"),
        ({"pattern": "("}, "the pattern '(' cannot be used"),
        ({"patternProperties": {"a" * 1001: {}}}, "use at most 1000"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "cannot be combined"),
        ({"allOf": [{"type": "string", "minLength": 1}] * 2000}, "use at most 50000"),
        ({"properties": {str(n): {} for n in range(1001)}}, "use at most 1000 subschemas"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], sentence: str) -> None:
    assert sentence in schema_error(schema)
    with pytest.raises(custom.BadSpec, match="json_schema expects a valid JSON Schema"):
        custom.check_json(schema)


def test_a_schema_nested_too_deeply_is_refused() -> None:
    for depth in (100, 5000):
        schema: dict[str, Any] = {}
        for _ in range(depth):
            schema = {"items": schema}
        assert "subschemas" in schema_error(schema) or "too deeply" in schema_error(schema)
        assert "cannot be checked" in first_violation([], schema)


def test_references_inside_the_schema_work() -> None:
    node = {"$defs": {"name": {"$anchor": "n", "type": "string"}}, "$id": "http://example.org/a"}
    schema = node | {"$schema": DIALECT, "properties": {"a": {"$ref": "#/$defs/name"}}}
    assert not schema_error(schema)
    assert not first_violation({"a": "x"}, schema)
    assert first_violation({"a": 1}, schema) == "a: 1 is not of type 'string'"
    tree = {"$dynamicAnchor": "t", "type": "object", "additionalProperties": {"$dynamicRef": "#t"}}
    assert first_violation({"a": {"b": 1}}, tree) == "a/b: 1 is not of type 'object'"


@pytest.mark.parametrize(
    ("schema", "value", "violation"),
    [
        ({"pattern": "^a"}, "b", "'b' does not match '^a'"),
        ({"pattern": "^a"}, 5, ""),
        ({"patternProperties": {"^a": {"type": "string"}}}, {"a1": 1, "b": 2}, "a1: 1 is not of"),
        (
            {
                "properties": {"a": {}},
                "patternProperties": {"^x": {}},
                "additionalProperties": False,
            },
            {"a": 1, "x1": 1, "y": 1},
            "Additional properties are not allowed ('y' is unexpected)",
        ),
        ({"additionalProperties": {"type": "string"}}, {"y": 1}, "y: 1 is not of type"),
        ({"uniqueItems": True}, [1, "a", 1.0], "non-unique"),
        ({"uniqueItems": True}, [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], "non-unique"),
        ({"uniqueItems": True}, [1, True, "1", None, [1], 1.5], ""),
        ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}, "Unevaluated"),
    ],
)
def test_own_keywords_judge_as_the_standard_says(
    schema: dict[str, Any], value: Any, violation: str
) -> None:
    assert not schema_error(schema)
    result = first_violation(value, schema)
    assert violation in result
    assert bool(result) == bool(violation)


def doubling() -> dict[str, Any]:
    defs: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)
    }
    return {"$defs": defs | {"a30": {}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": CATASTROPHIC}, f'"{SLOW_TEXT}"'),
        ({"patternProperties": {CATASTROPHIC: {}}}, f'{{"{SLOW_TEXT}": 1}}'),
        (
            {"patternProperties": {CATASTROPHIC: {}}, "additionalProperties": False},
            f'{{"{SLOW_TEXT}": 1}}',
        ),
        (doubling(), "{}"),
    ],
)
def test_a_slow_check_is_cut_and_says_nothing_about_the_model(
    schema: dict[str, Any], answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certification.suite.json_schema.MAX_CHECK_S", 0.05)
    grade = graders.json_answer(reply(answer), schema)
    assert (grade.passed, grade.valid) == (False, False)
    assert "The schema cannot be checked" in grade.sentence


@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 3000,
        "(" * 900,
        "a{1000000}",
        "(?:(?:(?:a{1000}){1000}){1000}){1000}",
        "(?x)(?:(?:a{500} ) #)\n{500}){500}",
        r"(?:(?:\(\){99}){99}){99}",
        "a{99999999999}",
        "[",
        5,
    ],
)
def test_a_pattern_that_takes_all_memory_or_cannot_be_compiled_is_refused(pattern: Any) -> None:
    assert pattern_error(pattern)
    assert schema_error({"pattern": pattern})
    with pytest.raises(custom.BadSpec):
        custom.check_regex([pattern])


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}$",
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        r"^(?:\S+\s+){0,49}\S+$",
        r"^.{1,2000}$",
    ],
)
def test_patterns_as_people_write_them_are_taken(pattern: str) -> None:
    assert not pattern_error(pattern)


KEYWORDS = sorted(
    {"$ref", "$dynamicRef", "$anchor", "$dynamicAnchor", "$id", "$schema", "$defs", "x"}
    | set(Draft202012Validator.VALIDATORS)
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=True)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner | st.sampled_from(["#", "#/$defs", "#x", "a", "(", {}, True]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck), deadline=None)
@given(JSON, JSON)
def test_no_schema_and_no_value_raises_anything(schema: Any, value: Any) -> None:
    assert isinstance(first_violation(value, schema if isinstance(schema, dict) else {}), str)
    try:
        check = custom.check_json(schema)
    except custom.BadSpec:
        return
    assert check(reply('{"a": [1, "b"]}')).sentence
