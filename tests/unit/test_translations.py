"""Every text is in Portuguese, and what is compiled is what is written. Needs no gettext tools."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
from django.conf import settings
from django.template import engines
from django.template.base import Node, Template
from django.templatetags.i18n import BlockTranslateNode, TranslateNode
from django.utils import translation
from django.utils.formats import date_format

from certification import labels
from certification.bedrock import fixes
from certification.reasons import ErrorCategory, Owner, Reason, Status

ROOT = Path(settings.BASE_DIR)
MESSAGES = ROOT / "certification" / "locale" / "pt_BR" / "LC_MESSAGES"
HOW_TO_FIX = (
    "Run `manage.py makemessages -l pt_BR --no-location --no-wrap`, translate, then "
    "`manage.py compilemessages` (both need GNU gettext, e.g. `apt-get install gettext`); both "
    "files are committed."
)
Key = tuple[str, str]  # context, msgid


@dataclass
class Entry:
    context: str = ""
    msgid: str = ""
    plural: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    fuzzy: bool = False


def read_po(path: Path) -> list[Entry]:
    """The entries of a .po file without its header."""
    entries = []
    for block in path.read_text().split("\n\n"):
        entry, current = Entry(), ""
        values: dict[str, str] = {}
        for line in block.splitlines():
            if line.startswith("#~"):
                continue
            if line.startswith("#"):
                entry.fuzzy |= line.startswith("#,") and "fuzzy" in line
            elif match := re.match(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[\d\])?) (".*")', line):
                current = match[1]
                values[current] = ast.literal_eval(match[2])
            elif line.startswith('"'):
                values[current] += ast.literal_eval(line)
        entry.context, entry.msgid = values.get("msgctxt", ""), values.get("msgid", "")
        entry.plural = values.get("msgid_plural", "")
        texts = [text for name, text in values.items() if name.startswith("msgstr")]
        entry.texts = dict(enumerate(texts))
        if entry.msgid:
            entries.append(entry)
    return entries


ENTRIES = read_po(MESSAGES / "django.po")
WRITTEN: dict[Key, Entry] = {(e.context, e.msgid): e for e in ENTRIES}
CALLS = {
    "_": (None, 0), "gettext": (None, 0), "gettext_lazy": (None, 0), "gettext_noop": (None, 0),
    "ngettext": (None, 0), "ngettext_lazy": (None, 0), "pgettext": (0, 1), "pgettext_lazy": (0, 1),
    "npgettext": (0, 1), "npgettext_lazy": (0, 1),
}  # fmt: skip


def marked_in_code() -> Iterator[tuple[str, Key]]:
    for folder in ("certification", "myia"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in CALLS
                ):
                    context, text = CALLS[node.func.id]
                    args = [a.value if isinstance(a, ast.Constant) else None for a in node.args]
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    assert all(isinstance(a, str) for a in args[: text + 1]), (
                        f"{where}: only literal texts can be found"
                    )
                    yield (
                        where,
                        (str(args[context]) if context is not None else "", str(args[text])),
                    )


def nodes(template: Template) -> Iterator[Node]:
    yield from template.nodelist.get_nodes_by_type(Node)


def marked_in_templates() -> Iterator[tuple[str, Key]]:
    engine = engines["django"]
    for path in sorted((ROOT / "templates").rglob("*.html")):
        where = str(path.relative_to(ROOT))
        for node in nodes(engine.from_string(path.read_text()).template):  # type: ignore[attr-defined]
            if isinstance(node, TranslateNode) and node.filter_expression.var.literal is None:
                continue  # a stored text, which is marked where it is written
            if isinstance(node, TranslateNode):
                context = node.message_context.var if node.message_context else ""
                yield (
                    where,
                    (
                        str(getattr(context, "literal", context)),
                        str(node.filter_expression.var.literal),
                    ),
                )
            elif isinstance(node, BlockTranslateNode):
                yield where, ("", node.render_token_list(node.singular)[0])


MARKED = [*marked_in_code(), *marked_in_templates()]


def test_texts_are_found_in_code_and_templates() -> None:
    assert len([1 for where, _key in MARKED if ".py:" in where]) > 200
    assert len([1 for where, _key in MARKED if where.endswith(".html")]) > 80


def test_every_marked_text_is_in_the_catalogue() -> None:
    missing = [f"{where}: {key[1]!r}" for where, key in MARKED if key not in WRITTEN]
    assert not missing, "\n".join([*missing, HOW_TO_FIX])


def test_every_fix_can_be_shown_in_portuguese() -> None:
    every = [*fixes.FIXES.values(), *fixes.HINTS.values()]
    texts = {text for fix in every for text in (fix.text, fix.wait) if text}
    assert not [text for text in texts if ("", text) not in WRITTEN]


def test_every_text_is_translated() -> None:
    expected_forms = {False: 1, True: 2}
    lacking = [
        e.msgid
        for e in ENTRIES
        if e.fuzzy or len([t for t in e.texts.values() if t]) != expected_forms[bool(e.plural)]
    ]
    assert not lacking


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if "%(" in e.msgid], ids=lambda e: e.msgid[:40]
)
def test_placeholders_are_kept(entry: Entry) -> None:
    def names(text: str) -> set[str]:
        return set(re.findall(r"%\(\w+\)\d*[sd]", text))

    assert all(names(text) == names(entry.msgid) for text in entry.texts.values())


def test_what_is_compiled_is_what_is_written() -> None:
    with (MESSAGES / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    expected: dict[object, str] = {}
    for entry in ENTRIES:
        key = f"{entry.context}\x04{entry.msgid}" if entry.context else entry.msgid
        expected |= (
            {(key, n): text for n, text in entry.texts.items()}
            if entry.plural
            else {key: entry.texts[0]}
        )
    compiled.pop("", None)
    assert compiled == expected, HOW_TO_FIX


def test_every_word_of_the_vocabularies_can_be_shown() -> None:
    assert set(labels.STATUSES) == set(Status)
    assert set(labels.REASONS) == set(Reason)
    assert set(labels.CATEGORIES) == set(ErrorCategory)
    assert set(labels.OWNERS) == set(Owner)
    who = (
        "OPERATOR",
        "ACCOUNT_ADMIN",
        "ORGANIZATION_ADMIN",
        "NETWORK_ADMIN",
        "GATEWAY_OWNER",
        "AWS_SUPPORT",
        "NOBODY",
    )
    assert set(labels.DOERS) == {getattr(fixes, name) for name in who}


def test_statuses_have_their_portuguese_words() -> None:
    with translation.override("pt-br"):
        shown = {status: str(sign.label) for status, sign in labels.STATUSES.items()}
    assert shown == {
        "certified": "certificado",
        "quality_warning": "aviso de qualidade",
        "failed": "reprovado",
        "pending": "pendente",
        "permission_required": "permissão necessária",
        "configuration_required": "configuração necessária",
        "not_tested": "não testado",
    }


def test_the_count_of_a_status_needs_no_plural() -> None:
    assert labels.counted("certified", 3) == "3 certified"
    with translation.override("pt-br"):
        assert labels.counted("certified", 3) == "certificado (3)"


def test_months_are_written_within_a_date_as_in_portuguese() -> None:
    with translation.override("pt-br"):
        months = [date_format(date(2026, month, 1)).split(" de ")[1] for month in range(1, 13)]
        assert months == [str(month) for month in labels.MONTHS]
    assert [month for month in months if not month.islower()] == []
