"""A Markdown reader shows text from data files, and the text does nothing else."""

import random
import re
from html import unescape

import pytest
from markdown_it import MarkdownIt

from finegym.data.markdown import plain, table
from tests.hub.conftest import HOSTILE_NAMES


ALPHABET = "\\`*_{}[]()#+-.!|<>&~$:@\"'/=^%?;, \n\t0aZé\u200b\u202e\x00"
FRAGMENTS = [
    "<b>",
    "</td>",
    "<!--",
    "https://a.b",
    "www.a.b",
    "me@a.b",
    "mailto:me@a.b",
    "//a.com",
    "a.com",
    "ftp://1.2.3.4",
    "](x)",
    "![",
    "```",
    "~~",
    "$$",
    "&lt;",
    "---",
    "|",
    "\n\n# ",
]


@pytest.fixture(scope="module")
def reader() -> MarkdownIt:
    """Render GitHub's dialect with raw HTML allowed and URLs made into links: the most that a text could do."""
    return MarkdownIt("gfm-like", {"html": True, "linkify": True})


def shown(html: str) -> str:
    """Return what a browser shows of a paragraph or cell."""
    return unescape(html.replace("<!---->", ""))


def expected(text: str) -> str:
    return re.sub("[\u200b\u202e\x00]", "\ufffd", " ".join(text.split()))


def random_texts(count: int) -> list[str]:
    generator = random.Random(0)
    texts = []
    for _ in range(count):
        letters = generator.choices(ALPHABET, k=generator.randint(1, 12))
        texts.append("".join(letters) + generator.choice(FRAGMENTS) + "".join(generator.choices(ALPHABET, k=3)) + "a")
    return texts


@pytest.mark.parametrize("texts", [HOSTILE_NAMES + FRAGMENTS, random_texts(3000)], ids=["chosen", "random"])
def test_a_text_in_a_table_is_shown_as_it_is(reader, texts):
    html = reader.render(table(("name",), [(text,) for text in texts]))
    cells = re.findall("<td>(.*?)</td>", html, re.DOTALL)
    assert [shown(cell) for cell in cells] == [expected(text) for text in texts]
    assert set(re.findall("</?([a-z]+)", html)) == {"table", "thead", "tbody", "tr", "th", "td"}


def test_a_text_in_a_sentence_is_shown_as_it_is(reader):
    for text in HOSTILE_NAMES + FRAGMENTS + random_texts(500):
        html = reader.render(f"The class {plain(text)} is one.")
        assert shown(html) == f"<p>The class {expected(text)} is one.</p>\n", text


def test_the_reader_would_have_been_fooled(reader):
    """Check that the oracle sees what it should."""
    html = reader.render("| name |\n| --- |\n" + "".join(f"| {text} |\n" for text in FRAGMENTS))
    assert {"b", "a"} <= set(re.findall("<([a-z]+)", html))


def test_numbers_and_gaps_in_a_table():
    assert table(("a", "b"), [(1, 93.456), ("x", None)]) == "| a | b |\n| --- | --- |\n| 1 | 93.46 |\n| x | – |"
