"""The channels of the settings: found by name, checked before anything is sent, and their secrets are never shown."""

import pytest
from click.testing import CliRunner
from support.messages import context

from app.alerting import channels
from app.alerting.channels import log, webhook
from app.cli.settings import settings as command
from app.errors import ConfigurationError
from app.settings import describe, load

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
URL = "https://hooks.example/services/s3cr3t"
VARIABLE = "ANOMALY_ALERTING__CHANNELS__HOOK__"


def given(tmp_path, text, **variables):
    file = tmp_path / "anomaly.yaml"
    file.write_text(text)
    return load(file, variables)


def made(tmp_path, text, **variables):
    return channels.make(given(tmp_path, text, **variables), context())


def wrong(tmp_path, text, **variables):
    with pytest.raises(ConfigurationError) as refusal:
        made(tmp_path, text, **variables)
    return str(refusal.value).replace(str(tmp_path), "")


def test_the_log_is_always_there_and_a_type_is_the_name_if_not_said(tmp_path):
    assert {name: type(one) for name, one in made(tmp_path, "").items()} == {"log": log.Channel}
    found = made(tmp_path, f"alerting: {{channels: {{webhook: {{url: '{URL}'}}, b: {{type: webhook, url: '{URL}'}}}}}}")
    assert {name: type(one) for name, one in found.items()} == {
        "log": log.Channel, "webhook": webhook.Channel, "b": webhook.Channel,
    }  # fmt: skip


def test_variables_are_text_and_mean_what_the_option_is(tmp_path):
    found = made(
        tmp_path, "alerting: {channels: {hook: {type: webhook}}}",
        **{f"{VARIABLE}URL": URL, f"{VARIABLE}TIMEOUT_S": "2.5", f"{VARIABLE}SIGNING_SECRET": SECRET,
           f"{VARIABLE}HEADERS": "Authorization: Bearer 1", f"{VARIABLE}MESSAGES_PER_MINUTE": "30"},
    )  # fmt: skip
    options = found["hook"].options
    assert (options.url, options.timeout_s, options.secret("signing_secret")) == (URL, 2.5, SECRET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{type: webhok}", "alerting.channels.hook.type (/anomaly.yaml:1): no such type of channel; did you mean webh"),
        ("{}", "alerting.channels.hook (/anomaly.yaml:1): its type is missing, and no type has its name; known: "),
        ("{type: webhook}", "alerting.channels.hook.url (/anomaly.yaml:1): is missing: must be https://host/path"),
        ("{type: webhook, url: 7}", "alerting.channels.hook.url (/anomaly.yaml:1): must be https://host/path, got 7"),
        ("{type: webhook, url: 'https://u:s3cr3t@host/'}", "must be https://host/path, got ******"),
        ("{type: webhook, url: 'https://host:99999/'}", "must be https://host/path, got ******"),
        ("{type: webhook, url: 'https://host/ x'}", "must be https://host/path, got ******"),
        ("{type: webhook, url: 'htps://x/s3cr3t'}", "must be https://host/path, got ******"),
        (f"{{type: webhook, url: '{URL}', timeot_s: 1}}", "hook.timeot_s (/anomaly.yaml:1): no such setting; did you"),
        (f"{{type: webhook, url: '{URL}', timeout_s: x}}", "must be a number from 0.1 to 300 s, got 'x'"),
        (
            f"{{type: webhook, url: '{URL}', signing_secret: s3cr3t}}",
            "alerting.channels.hook.signing_secret (/anomaly.yaml:1): is a secret: give it by the variable "
            "ANOMALY_ALERTING__CHANNELS__HOOK__SIGNING_SECRET, or in a file named by signing_secret_file",
        ),
        (f"{{type: webhook, url: '{URL}', headers: {{a: s3cr3t}}}}", "HOOK__HEADERS, or in a file named by headers_f"),
        (f"{{type: webhook, url: '{URL}', headers_file: /no/file}}", "hook (/anomaly.yaml:1): headers_file: expected"),
        (f"'{URL}'", "alerting.channels.hook (/anomaly.yaml:1): must be a mapping of settings, got ******"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_no_secret_is_shown(tmp_path, options, said):
    message = wrong(tmp_path, f"alerting: {{channels: {{hook: {options}}}}}")
    assert said in message and "s3cr3t" not in message


def test_a_secret_of_a_channel_that_no_variable_can_name_comes_from_a_file(tmp_path):
    for name in ("ops-hook", "ops__hook"):
        text = f"alerting: {{channels: {{{name}: {{type: webhook, url: '{URL}', signing_secret: s3cr3t}}}}}}"
        assert "is a secret: give it in a file named by signing_secret_file" in wrong(tmp_path, text)


def test_a_secret_is_given_once(tmp_path):
    text = f"alerting: {{channels: {{hook: {{type: webhook, url: '{URL}', headers_file: x}}}}}}"
    message = wrong(tmp_path, text, **{f"{VARIABLE}HEADERS": "A: s3cr3t"})
    assert "headers (ANOMALY_ALERTING__CHANNELS__HOOK__HEADERS): is given twice, also by headers_file" in message


def test_all_problems_are_listed_at_once(tmp_path):
    assert len(wrong(tmp_path, "alerting: {channels: {a: {type: x}, b: {type: webhook, c: 1}}}").splitlines()) == 3


def test_secrets_are_in_no_table_and_no_repr(tmp_path):
    (tmp_path / "s").write_text("x")
    text = f"""\
alerting:
  channels:
    hook: {{type: webhook, url: '{URL}', signing_secret: s3cr3t, list: ['{URL}'], headers_file: s, timeout_s: 2}}
"""
    variables = {f"{VARIABLE}HEADERS": "Authorization: Bearer s3cr3t", f"{VARIABLE}OTHER": "s3cr3t"}
    settings = given(tmp_path, text, **variables)
    rows = {row.name.rpartition("hook.")[2]: row.value for row in describe(settings) if "hook." in row.name}
    assert rows == {
        "type": "webhook", "messages_per_minute": None, "url": "******", "signing_secret": "******",
        "list": "******", "headers_file": "s", "timeout_s": 2, "headers": "******", "other": "******",
    }  # fmt: skip
    assert "s3cr3t" not in repr(settings) + str(settings)
    shown = CliRunner().invoke(command, ["--config", str(tmp_path / "anomaly.yaml")], env=variables)
    assert shown.exit_code == 0 and "hook.url" in shown.output and "s3cr3t" not in shown.output


@pytest.mark.parametrize("kind", channels.names())
def test_every_type_keeps_the_rules(kind):
    """Each secret can come from a file, each option says what it is, and its pace is set."""
    module = channels.find(kind)
    fields = module.Options.model_fields
    assert all(f"{name}_file" in fields for name in channels.secrets(module))
    assert all(field.description and field.json_schema_extra["allowed"] for field in fields.values())
    assert issubclass(module.Channel, channels.BaseChannel) and module.Channel.MESSAGES_PER_MINUTE > 0
    assert module.__doc__
