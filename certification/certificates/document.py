"""Set a certificate as a PDF: PDF/A-3a and PDF/UA-1, with its signed JSON inside.

What comes from outside (names of models, ids) is data for typst, never markup. Its own fonts are
used and the system's are not, so that every machine sets the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override, pgettext

from certification import labels
from certification.certificates import envelopes, qr, statements
from certification.certificates.envelopes import Envelope
from certification.lib import foreign_text
from certification.models import Backend, RouteKind, Tier

TEMPLATE = Path(__file__).with_name("certificate.typ")
MAX_TEXT = 200  # characters of a name or an id that are printed; the JSON inside has all
# a long id may break after any of these, and after so many characters without one
BREAK_AFTER, BREAK_EVERY = "-._:/@", 12
ZERO_WIDTH_SPACE = "\u200b"

Clean = Callable[[str], str]


def make(file: bytes, predicate: Mapping[str, Any], address: str, language: str) -> bytes:
    """Return the PDF of a certificate in a language, from its JSON file and what that says.
    `address` is that of its page.
    """
    from typst import TypstError  # noqa: PLC0415, slow to import

    envelope = envelopes.decode(file)
    with override(language):
        try:
            texts = content(envelope, predicate, address, language, printable)
            return compile_pdf(file, texts, address)
        except TypstError:  # the fonts lack a character of a name
            texts = content(envelope, predicate, address, language, spell_out)
            return compile_pdf(file, texts, address)


def compile_pdf(file: bytes, data: Mapping[str, Any], address: str) -> bytes:
    """Run typst. Raises TypstError where a text cannot be printed."""
    import typst  # noqa: PLC0415, slow to import

    inputs = {
        "data": json.dumps(data, ensure_ascii=False),
        "envelope": file.decode(),
        "qr": qr.svg(address).decode(),
    }
    return typst.compile(
        TEMPLATE.read_bytes(),
        format="pdf",
        font_paths=fonts(),
        ignore_system_fonts=True,
        sys_inputs=inputs,
        pdf_standards=["a-3a", "ua-1"],
        timestamp=data["timestamp"],
    )


@functools.cache
def fonts() -> Any:
    import typst  # noqa: PLC0415, slow to import

    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)


def printable(text: object) -> str:
    """Return foreign text on one line, without what acts instead of showing, cut to MAX_TEXT and
    with places where it may break.
    """
    line = " ".join(foreign_text.clean(str(text)[: 2 * MAX_TEXT]).split())
    if len(line) > MAX_TEXT:
        line = line[:MAX_TEXT] + "…"
    pieces, length = [], 0
    for character in line:
        pieces.append(character)
        length = 0 if character == " " else length + 1
        if character in BREAK_AFTER or length >= BREAK_EVERY:
            pieces.append(ZERO_WIDTH_SPACE)
            length = 0
    return "".join(pieces)


def spell_out(text: object) -> str:
    """Return foreign text with every character that a font may lack as its number: ⟨U+4E2D⟩."""
    shown = str(text)[: 2 * MAX_TEXT]
    return printable(
        "".join(c if c.isprintable() and ord(c) < 0x180 else f"<U+{ord(c):04X}>" for c in shown)
    )


def content(
    envelope: Envelope, predicate: Mapping[str, Any], address: str, language: str, clean: Clean
) -> dict[str, Any]:
    """Return all texts of the page in the active language; foreign ones pass through `clean`."""
    is_emulated = predicate["backend"] == Backend.EMULATOR
    issued_at = parse_datetime(predicate["issuedAt"])
    until = moment(predicate["inForceUntil"])
    name = pgettext("model in region", "in")
    short, _dash, country = language.partition("-")
    title = f"{_('Certificate')} {predicate['code']}"
    return {
        "title": f"{statements.EMULATED}: {title}" if is_emulated else title,
        "lang": short,
        "country": country.upper() or None,
        "timestamp": int(issued_at.timestamp()) if issued_at else 0,
        "emulated": statements.EMULATED if is_emulated else None,
        "emulated_note": _(
            "The calls went to a local emulator of AWS Bedrock. This says nothing about the model "
            "on AWS."
        ),
        "kind": _("EMULATED: certified on an emulator, not on AWS")
        if is_emulated
        else _("Certified on AWS Bedrock"),
        "name": clean(predicate["model"]["name"]),
        "place": f"{name} {predicate['region']['code']}",
        "id": clean(predicate["model"]["id"]),
        "vendor": f"{clean(predicate['model']['vendor'])} · {clean(predicate['region']['name'])}",
        "rating": predicate["score"]["rating"],
        "score": f"{predicate['score']['total']} / 100",
        "until": f"{_('In force until')} {until}",
        "cases": cases(predicate),
        "lists": [
            {"title": _("Score by part"), "rows": parts(predicate)},
            {"title": _("Speed"), "rows": speed(predicate)},
            {"title": _("Capabilities"), "rows": capabilities(predicate, clean)},
        ],
        "facts": {"title": _("Facts"), "rows": [*facts(predicate, clean), *proof(envelope)]},
        "limits": _(
            "It says how the model answered these cases on that day by this route. It says nothing "
            "about the quality of content beyond them."
        ),
        "code": predicate["code"],
        "address": printable(address),
        "link": address,
        "now": _("Is it true now? It may have been replaced or withdrawn since. Look here:"),
        "qr_alt": _("QR code: %(address)s") % {"address": address},
        "issuer": clean(predicate["issuer"]["name"]),
        "attachment": f"certificate-{predicate['code']}.json",
        "attached": _("The signed statement of this certificate"),
        "page": _("page"),
    }


def moment(text: str | None) -> str:
    """Return a time of a statement for people: UTC, by the reader's customs."""
    at: datetime | None = parse_datetime(text or "")
    return f"{date_format(at, 'DATETIME_FORMAT')} UTC" if at else "–"


def cases(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of cases by category, and of all."""
    rows = [
        [str(labels.CASE_CATEGORIES.get(row["category"], row["category"])), row]
        for row in predicate["cases"]["byCategory"]
    ]
    rows.append([_("All"), predicate["cases"]])
    return {
        "title": _("What was tested"),
        "head": [_("Category"), _("Passed"), _("Not applicable")],
        "rows": [
            [
                label,
                _("%(passed)s of %(total)s") % {"passed": row["passed"], "total": row["total"]},
                str(row["skipped"] or "–"),
            ]
            for label, row in rows
        ],
    }


def parts(predicate: Mapping[str, Any]) -> list[list[str]]:
    return [
        [str(label), number_format(100 * value, 1)]
        for name, label in labels.SCORE_PARTS.items()
        if (value := predicate["score"][name]) is not None
    ]


def speed(predicate: Mapping[str, Any]) -> list[list[str]]:
    figures = predicate["speed"]
    rows = (
        (_("First token"), figures["ttftMs"], "ms"),
        (_("Answers (median)"), figures["latencyP50Ms"], "ms"),
        (_("Output"), figures["outputTokensPerSecond"], "tokens/s"),
    )
    return [
        [label, f"{number_format(value, 0)} {unit}"]
        for label, value, unit in rows
        if value is not None
    ]


def capabilities(predicate: Mapping[str, Any], clean: Clean) -> list[list[str]]:
    """Return what the model can do, and what it refused."""

    def words(names: list[str]) -> str:
        return ", ".join(str(labels.CAPABILITIES.get(n, clean(n.replace("_", " ")))) for n in names)

    works, lacks = predicate["capabilities"]["works"], predicate["capabilities"]["lacks"]
    rows = [[_("works"), words(works)], [_("refused"), words(lacks)]]
    return [row for row in rows if row[1]]


def facts(predicate: Mapping[str, Any], clean: Clean) -> list[list[str]]:
    """Return the facts; each has a label, a value and whether the value is an id."""
    route, run = predicate["route"], predicate["run"]
    kind = labels.of_choice(RouteKind, route["kind"])
    residency = labels.RESIDENCIES.get(route["residency"], route["residency"])
    calls = ngettext("%(n)d call", "%(n)d calls", run["calls"]) % {"n": run["calls"]}
    rows = [
        (_("Route"), clean(route["target"]), True),
        ("", f"{kind}, {residency}, {route['endpoint']}", False),
        (_("Tested"), f"{moment(run['completedAt'])} ({calls})", False),
        (_("Issued"), moment(predicate["issuedAt"]), False),
        (_("Tier"), labels.of_choice(Tier, run["tier"]), False),
        (_("Backend"), labels.of_choice(Backend, predicate["backend"]), False),
        (
            _("Suite, policy"),
            f"{predicate['versions']['suite']}  {predicate['versions']['policy']}",
            True,
        ),
        (_("Run"), run["id"], True),
        (_("Evidence (SHA-256)"), predicate["evidence"]["sha256"], True),
        (_("Issuer"), clean(f"{predicate['issuer']['name']}, {predicate['issuer']['url']}"), False),
        (_("In the chain"), _("number %(number)s") % {"number": predicate["number"]}, False),
    ]
    return [[label, str(value), "id" if is_id else ""] for label, value, is_id in rows]


def proof(envelope: Envelope) -> list[list[str]]:
    """Return what the certificate is known by: the hash of its statement, and its key."""
    digest = hashlib.sha256(envelope.payload).hexdigest()
    return [
        [_("Statement (SHA-256)"), digest, "id"],
        [_("Key (SHA-256)"), envelope.key_id, "id"],
    ]
