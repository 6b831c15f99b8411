"""Text from data files as Markdown that shows exactly that text and does nothing else."""

import re
import unicodedata
from collections.abc import Iterable, Sequence


# Characters that can open Markdown or HTML, or that a renderer gives a meaning (maths, emoji, mentions).
SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$^<>&\"':!@]")
# What renderers turn into links even when it is written with character references.
LINK_STARTS = re.compile(r"(?i)(https?|ftp|mailto)(?=:)|www(?=\.)|@")
WORD_JOINER = "\u2060"


def plain(text: object) -> str:
    """One line of Markdown that shows `text` literally, inside a table cell or a sentence.

    Special characters become character references, which no Markdown reader takes for structure. Line breaks become
    blanks, other control and direction characters the replacement character U+FFFD. An invisible word joiner keeps
    addresses from turning into links.
    """
    words = " ".join(str(text).split())
    visible = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c for c in words)
    unlinked = LINK_STARTS.sub(lambda match: match[0] + WORD_JOINER, visible)
    return SPECIAL.sub(lambda match: f"&#{ord(match[0])};", unlinked)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Every cell is shown literally; a float is shown with two decimals and None as a dash."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *(line(row) for row in rows)])


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else plain(value)
