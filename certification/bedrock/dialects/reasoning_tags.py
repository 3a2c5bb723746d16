"""Part the text of an answer from reasoning in tags at its beginning.

gpt-oss on bedrock-runtime puts `<reasoning>...</reasoning>` before its answer, in the same text.
"""

from __future__ import annotations

OPEN, CLOSE = "<reasoning>", "</reasoning>"


class TagSplitter:
    """Takes the text in any pieces, tags cut in two as well."""

    def __init__(self) -> None:
        self.inside = False
        self.possible = True  # whether a tag may still open: nothing but tags came so far
        self._held = ""

    def feed(self, text: str) -> list[tuple[str, str]]:
        """Return the pieces that are certain, each with its kind: "text" or "reasoning"."""
        pieces: list[tuple[str, str]] = []
        self._held += text
        while self._held:
            if self.inside:
                before, tag, after = self._held.partition(CLOSE)
                if not tag:
                    before, after = split_before(self._held, CLOSE)
                pieces.append(("reasoning", before))
                self._held = after
                if not tag:
                    break
                self.inside = False
            elif self.possible and self._held.lstrip().startswith(OPEN):
                self.inside = True
                self._held = self._held.lstrip().removeprefix(OPEN)
            elif self.possible and OPEN.startswith(self._held.lstrip()):
                break
            else:
                self.possible = False
                pieces.append(("text", self._held))
                self._held = ""
        return [piece for piece in pieces if piece[1]]

    def end(self) -> list[tuple[str, str]]:
        """Return what was held back because a tag might have followed."""
        held, self._held = self._held, ""
        return [("reasoning" if self.inside else "text", held)] if held else []


def split_before(text: str, tag: str) -> tuple[str, str]:
    """Split a text before what may be the beginning of the tag at its end."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-size:]):
            return text[:-size], text[-size:]
    return text, ""
