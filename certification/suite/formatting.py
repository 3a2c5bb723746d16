"""Read an answer without its formatting: Markdown, HTML, LaTeX and typographic characters change
how a text looks and not what it says. RULES is the one table of what counts as formatting.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

LATEX_WRAPPERS = (
    r"boxed|fbox|mbox|text\w{0,10}|math(?:rm|bf|it|sf|tt|normal)|operatorname|emph|underline|bm"
    r"|displaystyle|large|Large|huge|Huge"
)
LATEX_SYMBOLS = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "approx": "≈", "to": "→", "rightarrow": "→",
    "Rightarrow": "⇒", "ldots": "…", "dots": "…", "circ": "°", "degree": "°", "euro": "€",
    "pounds": "£", "bullet": "•",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """What one kind of formatting looks like, and what a reader sees instead.

    `repeated` rules apply until nothing changes: commands can stand inside each other.
    """

    name: str
    pattern: re.Pattern[str]
    plain: str | Callable[[re.Match[str]], str]
    repeated: bool = False


def rule(
    name: str, pattern: str, plain: str | Callable[[re.Match[str]], str], *, repeated: bool = False
) -> Rule:
    return Rule(name, re.compile(pattern, re.MULTILINE), plain, repeated)


def character_of(match: re.Match[str]) -> str:
    """Return the ordinary character that a typographic variant stands for."""
    return unicodedata.normalize("NFKC", match[0])


def circled(match: re.Match[str]) -> str:
    return f"{unicodedata.numeric(match[0][0]):.0f}. "


def symbol(match: re.Match[str]) -> str:
    return LATEX_SYMBOLS[match[1]]


def entity(match: re.Match[str]) -> str:
    return html.unescape(match[0])


HTML_BLOCKS = r"p|pre|div|h[1-6]|ul|ol|tr|table|tbody|blockquote|center|section|article"
HTML_INLINE = r"b|strong|i|em|u|s|mark|small|big|code|kbd|samp|tt|span|font|sub|sup|td|th|a|q"

RULES = (
    # Characters
    rule("line ends", r"\r\n?|[\u2028\u2029\x85\v\f]", "\n"),
    rule("invisible characters", r"[\u200b-\u200f\u2060-\u2064\ufeff\xad\ufe0e\ufe0f]", ""),
    rule("HTML entities", r"&(?:#\d{1,6}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,10}\d?);", entity),
    rule("typographic spaces", r"[^\S\n]", " "),
    rule("typographic hyphens", r"[\u2010-\u2012\u2043\ufe58\ufe63\u2212]", "-"),
    rule("dashes inside a word", r"(?<=[^\W_])–(?=[^\W_])", "-"),
    rule("typographic double quotes", r"[“”„‟«»〝〞＂]", '"'),
    rule("typographic single quotes", r"[‘’‚‛′´ʼ]", "'"),
    rule("letter variants", r"[\uff01-\uff5e\U0001d400-\U0001d7ff]", character_of),
    rule("keycaps", r"(\d)\u20e3[ ]*", r"\1. "),
    rule("numbers in circles", r"[①-⑳][ ]*", circled),
    # HTML
    rule("HTML line breaks", r"(?i)<br\s*/?>", "\n"),
    rule("HTML list items", r"(?i)<li\b[^<>]{0,200}>", "\n- "),
    rule("HTML blocks", rf"(?i)</?(?:{HTML_BLOCKS})\b[^<>]{{0,200}}>|</li>", "\n"),
    rule("HTML emphasis", rf"(?i)</?(?:{HTML_INLINE})\b[^<>]{{0,200}}>", ""),
    # Markdown blocks
    rule("code fences", r"^[ \t>]*(?:`{3,}|~{3,})[\w+#.-]{0,20}[ \t]*$", ""),
    rule("code fences on a line", r"`{3}(?:(?:text|txt|markdown|json) )?([^`\n]+)`{3}", r"\1"),
    rule("block quotes", r"^[ ]{0,3}(?:>[ ]?)+(?=\S)", ""),
    rule("lines across the page", r"^[ ]{0,3}(?:(?:[-*_][ ]?){3,}|={3,})$", ""),
    rule("table borders", r"^[ ]*\|(?:[ ]*:?-+:?[ ]*\|)+[ ]*$|^[ ]*\|[ ]*|[ ]{0,4}\|[ ]{0,4}$", ""),
    rule("headings", r"^[ ]{0,3}#{1,6}[ ]+|(?<=\S)[ ]{1,3}#{1,6}$", ""),
    # LaTeX
    rule("LaTeX environments", r"\\(?:begin|end)\{[a-z]{1,20}\*?\}(?:\{[lcr|]{1,9}\})?", ""),
    rule("LaTeX items", r"\\item(?![a-zA-Z])[ ]*", "- "),
    rule("LaTeX line breaks", r"\\\\(?:\[[\w.]{1,8}\])?[ ]*(?=\n|$)|[ ]?\\\\(?=[ ])", "\n"),
    rule("LaTeX brackets", r"\\[()\[\]]|\\(?:left|right|big|Big)(?![a-zA-Z])\.?", ""),
    rule(
        "LaTeX dollars",
        r"\$\$|(?<![\w\\$])\$[ ]?(?=[^\s$])([^$\n]{1,200}?)(?<=[^\s\\$])[ ]?\$(?![ ]?\d|\$)",
        r"\1",
    ),
    rule("LaTeX grouped signs", r"\{([.,:;'-])\}", r"\1"),
    rule("LaTeX thin spaces", r"\\[,;:> ]|(?<=\d)~(?=\d)|\\(?:thinspace|quad|qquad|space)\b", " "),
    rule("LaTeX negative spaces", r"\\!", ""),
    rule("LaTeX symbols", rf"\\({'|'.join(LATEX_SYMBOLS)})(?![a-zA-Z])", symbol),
    rule("LaTeX fractions", r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", repeated=True),
    rule("LaTeX commands", rf"\\(?:{LATEX_WRAPPERS})\s*\{{([^{{}}]*)\}}", r"\1", repeated=True),
    rule("LaTeX switches", rf"\\(?:{LATEX_WRAPPERS})(?![a-zA-Z{{])", ""),
    # Markdown inside a line
    rule("backslash at the end of a line", r"[ ]?\\$", ""),
    rule("backslash before punctuation", r"\\([!-/:-@\[-`{-~])", r"\1"),
    rule("links", r"!?\[([^\[\]\n]*)\]\([^()\s]*\)", r"\1"),
    rule("bold", r"\*\*(?=\S)(.{1,500}?)(?<=\S)\*\*", r"\1"),
    rule("bold by underscores", r"(?<!\w)__(?=\S)(.{1,500}?)(?<=\S)__(?!\w)", r"\1"),
    rule("italic", r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=\S)\*(?![\w*])", r"\1"),
    rule("italic by underscores", r"(?<!\w)_(?=[^\s_])([^_\n]+?)(?<=\S)_(?!\w)", r"\1"),
    rule("bold that was not closed", r"(?<!\d)\*\*+(?=\S)|(?<=\S)\*\*+(?!\d)", ""),
    rule("italic that was not closed", r"(?<=[^\s*])\*$", ""),
    rule("struck out marks", r"~~(?=\S)(.{1,500}?)(?<=\S)~~", r"\1"),
    rule("inline code", r"`+", ""),
)  # fmt: skip


@lru_cache(maxsize=256)
def plain_text(text: str) -> str:
    """Return what a reader sees of a text: without Markdown, HTML and LaTeX, with ordinary spaces,
    hyphens and quotes, composed (NFC). Its lines stay lines.
    """
    text = unicodedata.normalize("NFC", text)
    for each in RULES:
        if not each.repeated:
            text = each.pattern.sub(each.plain, text)
            continue
        for _ in range(10):
            before, text = text, each.pattern.sub(each.plain, text)
            if before == text:
                break
    return text


SYMBOLS = "\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff"
LIST_MARK = re.compile(
    rf"""\s*(?:
        [-*+•‣·–—›»{SYMBOLS}]\s+(?:\[[ xX]\]\s+)?(?=\S)   # "- item", "• item", "- [x] item"
        | [•‣·{SYMBOLS}](?=[^\s•])                         # "•item"
        | [-–—](?=[^\s\d\-–—])                            # "-item", but not "-5" or "--"
        | \(?\d{{1,3}}\s?[.]?[.):-]\s+(?=\S)              # "1. item", "1) item"
        | \d{{1,3}}\s+[-–—:]\s+(?=\S)                    # "1 – item"
        | \(?[a-zA-Z][.)]\s+(?=\S)                       # "a) item"
        | \(?[ivxIVX]{{1,4}}[.)]\s+(?=\S)                 # "ii. item"
    )""",
    re.VERBOSE,
)


def is_list_item(line: str) -> bool:
    """Tell whether a line begins with the mark of a list, of any style."""
    return LIST_MARK.match(line) is not None


def without_list_mark(line: str) -> str:
    """Return a line without the mark of a list at its start, or two ("- 1. item"), and without
    spaces around.
    """
    for _ in range(2):
        line = LIST_MARK.sub("", line, count=1) if LIST_MARK.match(line) else line
    return line.strip()


def text_lines(text: str) -> list[str]:
    """Return the lines of a text that are not blank, without list marks."""
    return [line for line in map(without_list_mark, text.splitlines()) if line]
