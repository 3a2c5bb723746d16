"""Which secrets the archive for who helps looks for."""

from __future__ import annotations

import pytest

from certification.management import support


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://myia:hunter22@db/x", {"hunter22"}),
        ("redis://:hunter%2F22@db", {"hunter%2F22", "hunter/22"}),
        ("sentinel://:hunter22@a:26379,:hunter33@b/x?sentinel_password=hunter44",
         {"hunter22", "hunter33", "hunter44"}),
        ("https://hooks.example/x?api_key=hunter22&limit=5", {"hunter22"}),
        ("unix:///tmp/socket?db=0", set()),
        ("https://x.example:443/a", set()),
        ("https://[", set()),
    ],
)  # fmt: skip
def test_passwords_of_addresses_are_known(url: str, expected: set[str]) -> None:
    assert support.passwords_in(url) == expected


def test_secrets_are_replaced_however_json_writes_them() -> None:
    text = support.without({'a"b\\c-secret', 'a"b'}, '{"x": "a\\"b\\\\c-secret", "y": "a\\"b"}')
    assert text == '{"x": "[redacted]", "y": "[redacted]"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FLOWER_BASIC_AUTH=myia:hunter22\n", {"myia:hunter22", "myia", "hunter22"}),
        ('{"postgres": {"password": "hunter22", "port": 5}, "x": [1]}', {"hunter22"}),
        ("[" * 100_000, {"[" * 100_000}),
        ("only-a-key", {"only-a-key"}),
    ],
)
def test_words_of_private_files_are_known(text: str, expected: set[str]) -> None:
    assert support.words_of(text) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", 3001, 3001),
        ("DEBUG", False, False),
        ("LOG_LEVEL", "INFO", "INFO"),
        ("SOME_NAME", "whatever it is", "set"),
        ("SOME_LIST", [], "empty"),
        ("DB_PASSWORD", 123456, "set"),
        ("X", None, None),
    ],
)
def test_of_texts_only_whether_they_are_set_is_shown(
    name: str, value: object, expected: object
) -> None:
    assert support.shown(name, value) == expected
