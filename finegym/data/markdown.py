"""Text from data files as Markdown that shows exactly that text and does nothing else."""

import re
import unicodedata
from collections.abc import Iterable, Sequence


# Characters that can open Markdown or HTML, or that a renderer interprets (math, emoji, mentions).
SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$^<>&\"':!@]")
# Where an address can be cut so that no reader turns it into a link; "0.5 turn" stays whole.
LINK_JOINTS = re.compile(r"/(?=/)|(?<=\w)\.(?=[^\W\d])|@")


def plain(text: object) -> str:
    """Return one line of Markdown that shows `text` literally, inside a table cell or a sentence.

    Special characters become character references, which no Markdown reader takes for structure. Line breaks become
    blanks, other control and direction characters U+FFFD, and empty comments cut addresses apart.
    """
    words = " ".join(str(text).split())
    visible = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c for c in words)
    pieces = LINK_JOINTS.sub(lambda match: f"{match[0]}\0", visible).split("\0")
    return "<!---->".join(SPECIAL.sub(lambda match: f"&#{ord(match[0])};", piece) for piece in pieces)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table. Every cell is shown literally; a float is shown with two decimals and None as a
    dash."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *(line(row) for row in rows)])


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else plain(value)
