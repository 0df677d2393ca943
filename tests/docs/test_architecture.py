"""docs/architecture.md shows the packages that there are, and the way of a record through functions that exist."""

import ast
import configparser
import re

from tests.docs import pages

PAGE = (pages.ROOT / "docs" / "architecture.md").read_text("utf-8")
MOST_HOPS = 12


def layers(setup):
    """The packages of each layer, from above, as the contract about imports has them."""
    config = configparser.ConfigParser()
    config.read_string(setup)
    lines = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [{name.removeprefix("app.") for name in re.findall(r"[\w.]+", line)} for line in lines]


def drawn(page):
    """The same, as the picture has them: names in its first column."""
    picture = page.partition("```text\n")[2].partition("```")[0]
    return [set(names.split(", ")) for names in re.findall(r"^ ((?:\w+, )*\w+) {2,}", picture, re.M)]


def hops(page):
    return pages.rows(page.partition("## The way of one record")[2])


def lost(hop):
    """A hop whose function is not there."""
    path = pages.ROOT / hop["module"].strip("`")
    if not path.is_file():
        return True
    body = ast.parse(path.read_text("utf-8")).body
    for name in hop["function"].strip("`").split("."):
        found = [node for node in body if getattr(node, "name", None) == name]
        if not found:
            return True
        body = found[0].body
    return False


def test_the_picture_shows_the_layers_of_the_contract():
    setup = (pages.ROOT / "setup.cfg").read_text("utf-8")
    assert drawn(PAGE) == layers(setup)
    assert drawn(PAGE.replace(" wire  ", " wires ")) != layers(setup) != layers(setup.replace("app.wire", "app.wires"))


def test_every_package_is_in_the_picture():
    there = {path.name for path in (pages.ROOT / "app").iterdir() if (path / "__init__.py").is_file()}
    assert there <= set().union(*drawn(PAGE))


def test_every_hop_names_a_function_that_exists():
    assert 5 <= len(hops(PAGE)) <= MOST_HOPS
    assert [hop for hop in hops(PAGE) if lost(hop)] == []


def test_a_hop_to_nowhere_is_noticed():
    first = hops(PAGE)[0]
    assert lost(first | {"module": "`app/no.py`"}) and lost(first | {"function": "`Consumer.no`"})
