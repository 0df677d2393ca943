"""Links lead somewhere, the README is short, and every page can be found from it."""

import re

import pytest

from tests.docs.pages import PAGES, README, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^ *```.*?^ *```$|`[^`]*`", re.M | re.S)
FILE = re.compile(r"\b(?:app|agents|tables|generators|tests)/[\w/]+\.(?:py|js|html)\b")
TO_WRITE = {  # files of the examples
    *(f"app/{name}" for name in ("detectors/envelope.py", "web/static/highest.html", "web/static/highest.js")),
    "generators/die.py",
    "app/alerting/channels/ntfy.py",
}
MOST_LINES = 200  # of the README


def text_of(page):
    return page.read_text("utf-8")


def targets(text):
    """What a page links to, other hosts aside."""
    return [target for target in LINK.findall(CODE.sub("", text)) if "://" not in target]


def anchors(text):
    """The names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page, text):
    """Links of this text, as that of this page, to files or headings that are not there."""
    found = []
    for target in targets(text):
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        if not place.exists() or (anchor and anchor not in anchors(text if place == page else text_of(place))):
            found.append(target)
    return found


def unlinked(readme):
    """Pages that the README does not link to."""
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in targets(readme)}
    return [page for page in PAGES if page != README and page.resolve() not in linked]


def missing(text):
    """Files named in a page that are not there."""
    return sorted({name for name in FILE.findall(text) if not (ROOT / name).is_file()} - TO_WRITE)


def too_long(readme):
    return len(readme.splitlines()) > MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken(page, text_of(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_a_page_names_is_there(page):
    assert missing(text_of(page)) == []


def test_every_page_is_linked_from_a_short_readme():
    assert unlinked(text_of(README)) == [] and not too_long(text_of(README))
    assert len(PAGES) >= 11


def test_a_broken_link_a_lost_page_and_a_long_readme_are_noticed():
    text = "[a](no.md) [b](docs/records.md#no-such) [c\nd](docs/records.md#input-raw-data) `[e](no.md)` [f](#g)\n# G\n"
    assert broken(README, text) == ["no.md", "docs/records.md#no-such"]
    assert broken(README, text.replace("# G", "# H"))[-1] == "#g"
    assert unlinked(text_of(README).replace("(docs/records.md)", "")) == [ROOT / "docs" / "records.md"]
    assert missing("`app/no.py`, app/worker.py") == ["app/no.py"]
    assert too_long("\n" * (MOST_LINES + 1))
