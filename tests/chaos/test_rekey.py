"""The hop of input.rekey under fire: what it writes twice is taken once. The control is in test_controls.py."""

import pytest
from chaos import rekeying
from integration.run import Run


@pytest.mark.timeout(1200)
def test_results_are_as_exact_as_without_the_hop_whatever_happens_in_it(job, tmp_path):
    with Run(job, tmp_path, **rekeying.SETTINGS) as run:
        killed = rekeying.killed_in_the_hop(run)
        print(dict(killed.counts), rekeying.duplicates(run), "duplicates")
        assert killed.faults == {}
        assert killed.counts["results"] > 2000 and rekeying.duplicates(run) > 20
        stopped = rekeying.stopped_in_the_hop(run)
        stopped.pop("results repeated", None)  # what the stopped worker had sent behind the hop, as ever
        print(dict(stopped.counts), rekeying.duplicates(run), "duplicates")
        assert stopped.faults == {}
