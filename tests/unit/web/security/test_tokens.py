"""Tokens: made, found, expired, revoked; a file that is half written locks nobody out."""

import logging
import os
import re
import stat

import pytest
from click.testing import CliRunner

from app.cli import main, token
from app.errors import ConfigurationError
from app.web.security import tokens
from app.web.security.roles import ADMIN, READ, ROLES, WRITE, Caller
from app.web.security.tokens import StoredToken, TokensFile, digest, new_token, parse

NOW = 1_800_000_000.0


def entry(name="ann", roles=(READ,), expires=None):
    made = new_token()
    return made, StoredToken(name, frozenset(roles), digest(made), expires)


def kept(path, *entries):
    path.write_text("".join(f"{one.line()}\n" for one in entries))
    return path


def test_a_token_has_256_bits_and_is_never_the_same():
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"fa_[A-Za-z0-9_-]{43}", one) for one in made)


def test_a_token_is_found_with_its_roles_and_nothing_near_it_is(tmp_path):
    (one, ann), (other, bob) = entry("ann"), entry("bob", (READ, WRITE))
    found = TokensFile(kept(tmp_path / "tokens", ann, bob))
    assert found.find(one) == Caller("ann", frozenset({READ}))
    assert found.find(other) == Caller("bob", frozenset({READ, WRITE}))
    for near in ("", one[:-1], one + "A", one.swapcase(), one[3:], ann.digest, f" {one}", one + other, "ü\udcff", "\0"):
        assert found.find(near) is None, near


def test_a_token_is_good_until_it_expires(tmp_path):
    made, one = entry(expires=NOW)
    found = TokensFile(kept(tmp_path / "tokens", one))
    assert found.find(made, NOW - 1).name == "ann"
    assert found.find(made, NOW) is None


@pytest.mark.parametrize(
    ("roles", "may"), [({READ}, {READ}), ({WRITE}, {WRITE}), ({ADMIN}, set(ROLES)), (set(), set())]
)  # fmt: skip
def test_a_role_may_what_it_is_for_and_admin_may_all(roles, may):
    caller = Caller("ann", frozenset(roles))
    assert {role for role in (*ROLES, "unknown", "") if caller.may([role])} == may
    assert caller.may(ROLES) == bool(roles) and not caller.may([])


def test_a_change_is_taken_and_a_broken_file_changes_nothing(tmp_path, caplog):
    (one, ann), (other, bob) = entry("ann"), entry("bob")
    path = kept(tmp_path / "tokens", ann)
    found = TokensFile(path)
    kept(path, ann, bob)
    found.look()
    assert found.find(one) and found.find(other)
    path.write_text(f"{bob.line()}\n{ann.line()[:-5]}\n")
    with caplog.at_level(logging.ERROR):
        found.look()
        found.look()
    assert found.find(one) and found.find(other)
    assert caplog.text.count("line 2: SHA-256: expected 64 of 0-9 a-f, got 59") == 1
    path.unlink()
    found.look()
    assert found.find(one) and "No such file" in caplog.text
    kept(path, bob)
    found.look()
    assert found.find(one) is None and found.find(other)
    path.write_text("")
    found.look()
    assert found.find(other) is None


HASH = "0" * 64


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ann read", "line 2: expected name, roles, SHA-256 and maybe when it expires, got 2 words"),
        (f"a/b read {HASH}", "line 2: name: expected 1 to 64 of"),
        (f"ann reads {HASH}", "line 2: roles: expected some of read,write,admin, got 'reads'"),
        (f"ann read, {HASH}", "line 2: roles: expected some of"),
        (f"ann read {HASH[1:]}", "line 2: SHA-256: expected 64 of 0-9 a-f, got 63"),
        (f"ann read {'A' * 64}", "line 2: SHA-256: expected"),
        (f"ann read fa_{'x' * 43}", "line 2: expected the SHA-256 of the token, got a token"),
        (f"ann read {HASH} 2027-01-31", "line 2: expires: expected a time with its zone"),
        (f"ann read {HASH} soon", "line 2: expires: expected a time with its zone"),
        (f"bob read {HASH}", "line 2: a second token is called bob"),
    ],
)
def test_a_broken_line_stops_the_start_and_is_named(tmp_path, line, what):
    path = tmp_path / "tokens"
    path.write_text(f"bob read {HASH} # the other one\n{line}\n")
    with pytest.raises(ConfigurationError) as error:
        TokensFile(path)
    assert f"api.tokens_file: {path}: {what}" in str(error.value)
    assert "fa_" not in str(error.value)


def test_a_file_that_cannot_be_trusted_or_read_stops_the_start(tmp_path):
    path = kept(tmp_path / "tokens", entry()[1])
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="everybody may write there; chmod o-w"):
        TokensFile(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        TokensFile(tmp_path / "none")
    path.chmod(0o600)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="expected UTF-8 text"):
        TokensFile(path)


def test_comments_and_empty_lines_are_nothing():
    assert parse(f"# of the press\n\n  ann  read,admin  {HASH}  # since May\n") == [
        StoredToken("ann", frozenset({READ, ADMIN}), HASH)
    ]


# --- faust-anomaly token


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    path = tmp_path / "tokens"

    def call(*words, code=0):
        got = CliRunner().invoke(main, ["token", *words, "--file", str(path)])
        assert got.exit_code == code, got.output
        return got

    call.path = path
    return call


def test_create_prints_it_once_and_keeps_its_hash(run):
    made = run("create", "press", "--role", "read", "--role", "write", "--days", "2").stdout.strip()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o600
    assert made not in run.path.read_text()
    assert TokensFile(run.path).find(made) == Caller("press", frozenset({READ, WRITE}))
    listed = run("list").stdout
    assert re.fullmatch(r"press  read,write  until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", listed)


def test_a_name_is_given_once_and_must_be_one(run):
    run("create", "press", "--role", "read")
    assert "there is a token press already" in run("create", "press", "--role", "read", code=2).stderr
    assert "expected 1 to 64" in run("create", "a b", "--role", "read", code=2).stderr
    run("create", "bob", code=2)
    run("create", "bob", "--role", "root", code=2)


def test_revoke_takes_out_that_line_and_leaves_the_rest_as_it_was(run):
    run.path.write_text("# ours\n")
    run.path.chmod(0o640)
    one = run("create", "ann", "--role", "admin").stdout.strip()
    other = run("create", "bob", "--role", "read").stdout.strip()
    found = TokensFile(run.path)
    run("revoke", "ann")
    found.look()
    assert found.find(one) is None and found.find(other)
    assert run.path.read_text().startswith("# ours\nbob read ")
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o640
    assert os.listdir(run.path.parent) == ["tokens"]
    assert "no token ann; there are: bob" in run("revoke", "ann", code=1).stderr


def test_a_file_that_is_broken_is_not_made_worse(run):
    run.path.write_text("ann read\n")
    for words in (("create", "bob", "--role", "read"), ("list",), ("revoke", "ann")):
        assert "line 1: expected name, roles" in run(*words, code=2).stderr
    assert run.path.read_text() == "ann read\n"


def test_an_expired_one_is_listed_as_such(run):
    run.path.write_text(f"ann read {HASH} 2020-01-01T00:00:00Z\n")
    assert run("list").stdout == "ann  read  until 2020-01-01T00:00:00Z  expired\n"


def test_the_command_knows_the_roles():
    assert token.ROLES == ROLES
    assert len(new_token()) < tokens.LONGEST
