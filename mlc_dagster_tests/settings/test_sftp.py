"""``sftp:``, a server that is pinned and one way to log in."""

import pytest

from mlc_dagster_tests.settings.configuration import ABSENT, problems, settings


def test_pins_may_be_one_or_several() -> None:
    """While a server's key is rotated, both the old and the new one are right."""
    read = settings({"stampli.sftp.host_key": ["SHA256:old", "SHA256:new"]})
    assert read.stampli is not None
    assert read.stampli.sftp.host_keys == ["SHA256:old", "SHA256:new"]


@pytest.mark.parametrize("pins", ["", [], [""]])
def test_an_empty_pin_is_refused(pins: object) -> None:
    """No pin means no server can be trusted; the error says how to get one."""
    [problem] = problems({"stampli.sftp.host_key": pins})
    assert "ssh-keyscan" in problem


def test_password_and_key_exclude_each_other() -> None:
    """With both, nobody can tell which one the server accepted."""
    assert problems({"stampli.sftp.private_key": "env:KEY"}) == ["stampli.sftp: give either password or private_key"]
    assert problems({"stampli.sftp.password": ABSENT}) == ["stampli.sftp: give either password or private_key"]


def test_passphrase_needs_a_key() -> None:
    """It would be ignored, and a person would believe that the key is protected."""
    [problem] = problems({"stampli.sftp.passphrase": "env:PASSPHRASE"})
    assert problem == "stampli.sftp: passphrase belongs to private_key, which is absent"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ssh_rsa", "did you mean 'ssh-rsa'"),
        ("hmac-sha-1", "did you mean 'hmac-sha1'"),
        ("ssh-ed25519", "always spoken"),
    ],
)
def test_only_a_weak_algorithm_by_its_name_can_be_allowed(name: str, hint: str) -> None:
    """A misspelt name would leave the partner refused, with a file that looks right."""
    [problem] = problems({"stampli.sftp.allow_algorithms": [name]})
    assert problem.startswith("stampli.sftp.allow_algorithms:")
    assert repr(name) in problem
    assert hint in problem


def test_weak_algorithms_are_allowed_by_name() -> None:
    """And none is by itself."""
    read = settings({"stampli.sftp.allow_algorithms": ["ssh-rsa", "hmac-sha1"]})
    assert read.stampli is not None
    assert read.stampli.sftp.allow_algorithms == ["ssh-rsa", "hmac-sha1"]
