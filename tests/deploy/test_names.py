"""Every metric, setting and file that is named in what is deployed exists."""

import pytest

from tests.deploy.named import ROOT, missing_files, texts, unknown_metrics, unknown_variables

CHECKS = {
    unknown_metrics: "sum(rate(faust_anomaly_records_eaten_total[5m]))",
    unknown_variables: "ANOMALY_KAFKA__GROUP_INSTANCE: pump",
    missing_files: "see docs/runbooks.md",
}
EVERY = list(texts())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_is_named_exists(check):
    found = {str(path.relative_to(ROOT)): names for path, text in EVERY if (names := check(text))}
    assert not found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_does_not_exist_is_found(check):
    assert check(CHECKS[check])


def test_names_that_exist_are_not_found():
    text = "faust_anomaly_batch_duration_seconds_bucket ANOMALY_KAFKA__SASL_PASSWORD_FILE docs/operations.md"
    assert not any(check(text) for check in CHECKS)
