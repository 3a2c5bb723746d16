"""The picture of a badge: its texts, widths and colours. No database and no request."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from django.template.loader import render_to_string

STYLES = ("flat", "flat-square")
FONT_PX, PADDING_PX = 11, 6
LABEL_PX, MESSAGE_PX = 280, 240  # the maximum width of either text

# Advance widths in thousandths of the font size, measured on DejaVu Sans, whose letters are as wide
# as Verdana's. A font of other widths is stretched or squeezed to them by `textLength`.
ADVANCES = {
    character: width
    for width, characters in {
        275: "'",
        278: "ijlìíîïĩīĭįıĵĺļ",
        295: "IJÌÍÎÏĨĪĬĮİĴ",
        318: " ,.·‘’",
        337: "/:;\\|¦",
        352: "fſ",
        361: "-",
        390: "()[]",
        392: "tţťŧ",
        401: "!¡²³¹",
        411: "rŕŗř",
        460: '"',
        471: "ªº",
        500: "*_`§¨¯°´¸–",
        518: "“”",
        521: "sśŝşš",
        525: "zźżž",
        531: "?¿",
        550: "cçćĉċč",
        557: "LĹĻĽĿ",
        575: "F",
        579: "kķĸ",
        592: "vxyýÿŷ",
        603: "P",
        611: "TYÝŢŤŦŶŸ",
        612: "o«»ðòóôõöøōŏő",
        613: "aàáâãäåāăą",
        615: "eèéêëēĕėęě",
        630: "ß",
        632: "EÈÉÊËĒĔĖĘĚ",
        634: "hnuñùúûüĥńņňŋũūŭůűų",
        635: "SbdgpqþďđĝğġģŚŜŞŠ",
        636: "$0123456789{}¢£¤¥µ¶",
        656: "KĶ",
        684: "AVÀÁÂÃÄÅĀĂĄ",
        685: "XZŹŻŽ",
        686: "B",
        695: "RħŔŖŘ",
        698: "CÇĆĈĊČ",
        732: "UÙÚÛÜŨŪŬŮŰŲ",
        748: "NÑŃŅŇŊ",
        752: "HĤ",
        770: "DĎ",
        775: "GÐĐĜĞĠĢ",
        780: "&",
        787: "OQÒÓÔÕÖØŌŎŐ",
        818: "wŵ",
        838: "#+<=>^~¬±×÷",
        863: "M",
        950: "%",
        969: "¼½¾",
        974: "mÆ",
        982: "æ",
        989: "WŴ",
        1000: "@©®—…",
        1023: "œ",
        1070: "Œ",
    }.items()
    for character in characters
}
UNMEASURED, FULL_WIDTH = 680, 1000


@dataclass(frozen=True)
class Paint:
    """A background and a text colour with enough contrast (4.5 : 1 or more, shading included)."""

    fill: str
    text: str


LABEL = Paint("#464d57", "#ffffff")
PAINTS = {
    "green": Paint("#1e7230", "#ffffff"),
    "red": Paint("#bb2d2a", "#ffffff"),
    "yellow": Paint("#eec643", "#1f1a08"),
    "blue": Paint("#1f66b5", "#ffffff"),
    "orange": Paint("#f39237", "#241302"),
    "grey": Paint("#bcc2ca", "#1c2127"),
}


@dataclass(frozen=True)
class Part:
    """One half of a badge: where it starts, how wide it is, and its text. Lengths in px."""

    text: str
    x: int
    width: int
    text_width: int
    paint: Paint

    @property
    def end(self) -> int:
        return self.x + self.width

    @property
    def text_x(self) -> int:
        return self.x + PADDING_PX


def clean(text: str) -> str:
    """Return one line without what XML forbids or what changes the direction of text; normalized,
    so that accents are measured.
    """
    characters = []
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            characters.append(" ")
        elif category not in ("Cf", "Cs", "Co") and character not in "\ufffe\uffff":
            characters.append(character)
    return " ".join("".join(characters).split())


def text_px(text: str) -> float:
    """Return how wide a text is drawn, in px."""
    return sum(map(advance, text)) * FONT_PX / 1000


def advance(character: str) -> int:
    """Return a character's width in thousandths of the font size."""
    if character in ADVANCES:
        return ADVANCES[character]
    if unicodedata.combining(character):
        return 0
    return FULL_WIDTH if unicodedata.east_asian_width(character) in "FW" else UNMEASURED


def fit(text: str, width: float) -> str:
    """Return the text, with an ellipsis where it is wider than so many px."""
    if text_px(text) <= width:
        return text
    left = width - text_px("…")
    for end, character in enumerate(text):
        left -= advance(character) * FONT_PX / 1000
        if left < 0:
            return text[:end].rstrip() + "…"
    return text


def shorten(label: str, suffix: str = "") -> str:
    """Return a label that fits its half; `suffix`, its end, is never cut."""
    return fit(label.removesuffix(suffix), LABEL_PX - text_px(suffix)) + suffix


@lru_cache(maxsize=2048)
def draw(label: str, message: str, color: str, style: str, title: str) -> str:
    """Return a badge as SVG. `color` is a key of PAINTS; the texts are clean already; without a
    label there is one half only.
    """
    left = make_part(label, 0, LABEL)
    right = make_part(fit(message, MESSAGE_PX), left.end, PAINTS[color])
    corner = 0 if style == "flat-square" else 3
    parts = [part for part in (left, right) if part.text]
    outline = {"width": right.end, "corner": corner, "inner": right.end - corner}
    return render_to_string(
        "badge.svg", {"title": title, "parts": parts, "label": left, "message": right, **outline}
    )


def make_part(text: str, x: int, paint: Paint) -> Part:
    text_width = max(1, round(text_px(text)))
    return Part(text, x, text_width + 2 * PADDING_PX if text else 0, text_width, paint)
