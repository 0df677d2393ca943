"""Files of ``deploy`` that are made from the program are as it would make them."""

import pytest

from tests.deploy.generate import GENERATED
from tests.deploy.named import ROOT


@pytest.mark.parametrize("name", GENERATED)
def test_the_file_is_as_the_program_makes_it(name):
    assert (ROOT / name).read_text("utf-8") == GENERATED[name](), "`python -m tests.deploy.generate` writes it"
