"""Negative controls: real programs with something of the protocol missing. The campaign's checker flags each."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from chaos import controls
from integration.run import Run
from support.jobs import Job

SOUND = "the worker, where plain source keys lose"  # the same zombie, the same cleaner


@pytest.mark.timeout(1200)
def test_every_broken_program_is_caught_and_the_worker_is_not(kafka, tmp_path):
    """Side by side: most of the time goes by until sessions end."""
    plays = {name: control.play for name, control in controls.CONTROLS.items()}
    plays[SOUND] = controls.zombie_beside_the_cleaner

    def faults(name):
        directory = tmp_path / name.replace(" ", "-")
        directory.mkdir()
        of = controls.CONTROLS[name].settings if name in controls.CONTROLS else {}
        with Run(Job.of(name, kafka.bootstrap_servers), directory, **of) as run:
            return plays[name](run).faults

    with ThreadPoolExecutor(len(plays)) as pool:
        found = dict(zip(plays, pool.map(faults, plays)))
    print({name: {kind: ids[0] for kind, ids in said.items()} for name, said in found.items()})
    assert found.pop(SOUND) == {}
    assert [name for name, said in found.items() if not controls.CONTROLS[name].flagged & said.keys()] == []
