"""Ways in which models format one and the same answer, written apart from the graders: what FORMATS
returns says what the text says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

Format = Callable[[str], str]


def each_line(form: str) -> Format:
    """Put every line that is not blank into a form such as "**{}**", without its list mark."""

    def apply(text: str) -> str:
        lines = [re.sub(r"^- ", "", line) for line in text.split("\n")]
        return "\n".join(form.format(line) if line.strip() else line for line in lines)

    return apply


def within_lines(form: str) -> Format:
    """Put what every line says into a form, after its list mark."""

    def apply(text: str) -> str:
        return re.sub(r"(?m)^(- |)(.*\S)[ ]*$", lambda m: m[1] + form.format(m[2]), text)

    return apply


def numbered(form: str) -> Format:
    """Number every line that is not blank, instead of its list mark."""

    def apply(text: str) -> str:
        lines, count = [], 0
        for line in text.split("\n"):
            count += bool(line.strip())
            marked = form.format(count, re.sub(r"^- ", "", line))
            lines.append(marked if line.strip() else line)
        return "\n".join(lines)

    return apply


def replacing(*pairs: tuple[str, str]) -> Format:
    def apply(text: str) -> str:
        for old, new in pairs:
            text = text.replace(old, new)
        return text

    return apply


def html_list(text: str) -> str:
    lines = [re.sub(r"^- ", "", line) for line in text.split("\n") if line.strip()]
    return "<ul>\n" + "\n".join(f"<li>{line}</li>" for line in lines) + "\n</ul>"


def escaped(text: str) -> str:
    """Escape what Markdown could take for marks, as some models do everywhere."""
    return re.sub(r"(?<=\S)([-_.!()$#])", r"\\\1", text)


# Formats of the whole answer that leave every character of its lines as it is.
AROUND: dict[str, Format] = {
    "code fence": lambda text: f"```\n{text}\n```",
    "code fence with a language": lambda text: f"```text\n{text}\n```",
    "tilde fence": lambda text: f"~~~\n{text}\n~~~",
    "blank lines around": lambda text: f"\n\n{text}\n\n",
    "line above and below": lambda text: f"---\n\n{text}\n\n---",
    "CRLF": replacing(("\n", "\r\n")),
    "spaces at line ends": lambda text: re.sub(r"(?m)(?<=\S)$", "  ", text),
    "blank lines between": replacing(("\n", "\n\n")),
    "table": lambda text: re.sub(r"(?m)^(.*\S)$", r"| \1 |", text),
    "heading": lambda text: text if "\n" in text else f"### {text}",
    "block quote": lambda text: re.sub(r"(?m)^", "> ", text),
}
# Formats of each line.
LINES: dict[str, Format] = {
    "bold": within_lines("**{}**"),
    "bold with its mark": lambda text: re.sub(r"(?m)^(.*\S)$", r"**\1**", text),
    "bold by underscores": within_lines("__{}__"),
    "italic": within_lines("*{}*"),
    "italic by underscores": within_lines("_{}_"),
    "bold italic": within_lines("***{}***"),
    "inline code": within_lines("`{}`"),
    "HTML bold": within_lines("<strong>{}</strong>"),
    "HTML paragraphs": each_line("<p>- {}</p>"),
    "HTML breaks": replacing(("\n", "<br>\n")),
    "HTML breaks alone": replacing(("\n", "<br/>")),
    "backslash breaks": replacing(("\n", "\\\n")),
    "LaTeX breaks": replacing(("\n", " \\\\\n")),
    "LaTeX box": within_lines(r"\boxed{{\text{{{}}}}}"),
    "LaTeX box in display": within_lines(r"\[ \boxed{{\text{{{}}}}} \]"),
    "LaTeX text": within_lines(r"\(\text{{{}}}\)"),
    "LaTeX array": lambda text: (
        "\\[\n\\begin{array}{l}\n" + text.replace("\n", " \\\\\n") + "\n\\end{array}\n\\]"
    ),
    "LaTeX bold": within_lines(r"$\textbf{{{}}}$"),
    "HTML list": html_list,
    "list by asterisks": each_line("* {}"),
    "list by bullets": each_line("• {}"),
    "list by dashes": each_line("– {}"),
    "list without spaces": each_line("•{}"),
    "numbers with points": numbered("{}. {}"),
    "numbers with brackets": numbered("{}) {}"),
    "numbers in brackets": numbered("({}) {}"),
    "numbers with hyphens": numbered("{} - {}"),
    "numbers in bold": numbered("**{}.** {}"),
    "LaTeX items": lambda text: (
        "\\begin{itemize}\n" + each_line("\\item {}")(text) + "\n\\end{itemize}"
    ),
    "list by symbols": each_line("🔹 {}"),
    "keycaps": numbered("{}\ufe0f\u20e3 {}"),
}
# Formats of the characters.
CHARACTERS: dict[str, Format] = {
    "non-breaking hyphens": replacing(("-", "\u2011")),
    "Unicode hyphens": replacing(("-", "\u2010")),
    "en dashes": lambda text: re.sub(r"(?<=\w)-(?=\w)", "–", text),
    "non-breaking spaces": replacing((" ", "\u00a0")),
    "narrow spaces": replacing((" ", "\u202f")),
    "thin spaces": replacing((" ", "\u2009")),
    "zero-width spaces": replacing((" ", " \u200b")),
    "byte order mark": lambda text: f"\ufeff{text}",
    "curly apostrophes": replacing(("'", "’")),
    "decomposed accents": lambda text: unicodedata.normalize("NFD", text),
    "full-width characters": lambda text: text.translate({n: n + 0xFEE0 for n in range(48, 58)}),
    "HTML entities": replacing(("&", "&amp;"), (" ", "&nbsp;")),
    "escaped marks": escaped,
    "LaTeX spaces": replacing((" ", "\\ ")),
}


def quoted(opening: str, closing: str) -> Format:
    """Put what the last line says in quotes, after its list mark."""
    mark = r"(?m)^(- |\d+[.)] |\d+ - |)"
    return lambda text: re.sub(rf"{mark}(.*\S)\s*\Z", rf"\g<1>{opening}\g<2>{closing}", text)


def full_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


# Formats of the last line, or of an answer that is one line.
LAST_LINE: dict[str, Format] = {
    "full stop": full_stop,
    "curly quotes": quoted("“", "”"),
    "straight quotes": quoted('"', '"'),
    "angle quotes": quoted("«", "»"),
}
FORMATS: dict[str, Format] = {**AROUND, **LINES, **CHARACTERS, **LAST_LINE}
