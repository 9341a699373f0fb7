"""Secrets come from where their reference says, or an error says why not; a value is never shown."""

import os
from collections.abc import Mapping
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from mlc_dagster.vault import SecretError, SecretResolver, SecretText
from mlc_dagster.vault.secret_file import LARGEST_SECRET, refuse_open_permissions


def resolve(reference: str, *, environ: Mapping[str, str], root: Path) -> str:
    return SecretResolver(environ, root).resolve(reference)


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_env_reference_reads_the_given_environment(tmp_path: Path) -> None:
    """The environment is passed in, so that tests and tenants cannot read each other's."""
    assert resolve("env:PASSWORD", environ={"PASSWORD": "hunter2 "}, root=tmp_path) == "hunter2 "


def test_unset_variable_is_named(tmp_path: Path) -> None:
    """A person who deploys must see which variable to set, not a login that fails later."""
    with pytest.raises(SecretError, match=r"env:PASSWORD: environment variable PASSWORD is not set; set it") as caught:
        resolve("env:PASSWORD", environ={}, root=tmp_path)
    assert caught.value.reference == "env:PASSWORD"


def test_empty_secret_is_an_error(tmp_path: Path) -> None:
    """An empty variable is a deployment that went wrong; logging in with an empty password hides it."""
    with pytest.raises(SecretError, match="env:PASSWORD: is empty"):
        resolve("env:PASSWORD", environ={"PASSWORD": ""}, root=tmp_path)


def test_absolute_file_is_read(tmp_path: Path) -> None:
    """Docker and Kubernetes hand secrets over as files."""
    path = secret_file(tmp_path, b"hunter2")
    assert resolve(f"file:{path}", environ={}, root=Path("/elsewhere")) == "hunter2"


def test_relative_file_starts_at_the_folder_of_the_configuration(tmp_path: Path) -> None:
    """The working directory of a daemon is not where mlc.yaml is."""
    secret_file(tmp_path, b"hunter2")
    assert resolve("file:secret", environ={}, root=tmp_path) == "hunter2"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b" hunter2 ", " hunter2 "),
        (b"-----BEGIN K-----\nabc\n-----END K-----\n", "-----BEGIN K-----\nabc\n-----END K-----"),
    ],
)
def test_one_trailing_newline_is_not_part_of_the_secret(tmp_path: Path, content: bytes, value: str) -> None:
    """Editors add a newline; anything else in the file may belong to the password."""
    path = secret_file(tmp_path, content)
    assert resolve(f"file:{path}", environ={}, root=tmp_path) == value


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_file_open_to_every_user_is_refused(tmp_path: Path, mode: int) -> None:
    """A secret that each account of the host can read is not secret; the error holds the command that cures it."""
    path = secret_file(tmp_path, b"hunter2", mode)
    with pytest.raises(SecretError, match=f"mode {mode:04o}.*chmod 600 {path}"):
        resolve(f"file:{path}", environ={}, root=tmp_path)


def test_file_open_to_its_group_is_read(tmp_path: Path) -> None:
    """Service accounts read secrets through a group; that is a decision of the administrator."""
    path = secret_file(tmp_path, b"hunter2", 0o640)
    assert resolve(f"file:{path}", environ={}, root=tmp_path) == "hunter2"


@pytest.mark.parametrize("mode", [0o660, 0o620])
def test_file_that_its_group_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever may write a secret decides whom the product logs in as, or which key signs its checkpoints."""
    path = secret_file(tmp_path, b"hunter2", mode)
    with pytest.raises(SecretError, match=f"changed by everybody in its group .*mode {mode:04o}.*chmod g-w {path}"):
        resolve(f"file:{path}", environ={}, root=tmp_path)


def test_secrets_mounted_by_an_orchestrator_may_be_readable_but_not_writable() -> None:
    """Docker mounts /run/secrets as 0444 and nobody can change that; a writable one is still wrong."""
    path = Path("/run/secrets/password")
    refuse_open_permissions("file:/run/secrets/password", path, 0o100444)
    with pytest.raises(SecretError, match="mode 0446"):
        refuse_open_permissions("file:/run/secrets/password", path, 0o100446)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The path after resolving the relative part is what a person has to look at."""
    with pytest.raises(SecretError, match=f"file:absent: {tmp_path}/absent does not exist"):
        resolve("file:absent", environ={}, root=tmp_path)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to would hold the start-up for ever."""
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path, 0o600)
    with pytest.raises(SecretError, match="is not a file"):
        resolve(f"file:{path}", environ={}, root=tmp_path)


def test_wrong_file_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    """A path to a database dump must not end up in a header."""
    path = secret_file(tmp_path, b"x" * (LARGEST_SECRET + 1))
    with pytest.raises(SecretError, match=f"is over {LARGEST_SECRET} bytes"):
        resolve(f"file:{path}", environ={}, root=tmp_path)


def test_file_that_is_not_text_shows_no_byte_of_itself(tmp_path: Path) -> None:
    """The decoder's message quotes the offending bytes, and the chained exception would print them."""
    path = secret_file(tmp_path, b"hunter2\xff")
    with pytest.raises(SecretError, match="is not UTF-8 text") as caught:
        resolve(f"file:{path}", environ={}, root=tmp_path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("mistyped", ["hunter2", "pass:word", "env:pa$$word!", "STORE:hunter2"])
def test_password_typed_in_place_of_a_reference_is_not_repeated(tmp_path: Path, mistyped: str) -> None:
    """Errors are logged and shown in the Dagster UI, which more people read than mlc.yaml."""
    with pytest.raises(SecretError) as caught:
        resolve(mistyped, environ={}, root=tmp_path)
    assert mistyped.removeprefix("env:") not in str(caught.value)
    assert "not shown" in caught.value.reference


@pytest.mark.parametrize("reference", ["", ":", "env:", ":NAME"])
def test_reference_without_scheme_or_target_says_what_to_write(tmp_path: Path, reference: str) -> None:
    """A variable that was empty when mlc.yaml was filled in leaves such a rest."""
    with pytest.raises(SecretError, match="write store:name, env:NAME or file:/path"):
        resolve(reference, environ={"": "x"}, root=tmp_path)


@hypothesis.given(st.text(min_size=6).filter(lambda text: "\x00" not in text))
def test_value_is_not_in_any_repr(value: str) -> None:
    """Tracebacks with locals, dataclass reprs and debuggers print reprs."""
    resolver = SecretResolver({"NAME": value}, Path())
    secret = resolver.resolve("env:NAME")
    assert secret == value
    hypothesis.assume(value not in "SecretText('**********') SecretResolver(['env:NAME'])")
    for shown in (repr(secret), f"{secret!r}", f"{[secret]}", "%r" % secret, repr(resolver)):  # noqa: UP031
        assert value not in shown


def test_resolved_secret_is_text_wherever_text_is_needed() -> None:
    """Connectors and libraries take str; a wrapper that they must unwrap would be forgotten somewhere."""
    secret = SecretResolver({"NAME": "hunter2"}, Path()).resolve("env:NAME")
    assert isinstance(secret, SecretText)
    assert f"Basic {secret}".encode() == b"Basic hunter2"


def test_rotated_secret_is_picked_up_without_a_restart(tmp_path: Path) -> None:
    """Kubernetes exchanges the file under a running process; the old value may still be in an error to come."""
    path = secret_file(tmp_path, b"first-value")
    resolver = SecretResolver({}, tmp_path)
    resolver.resolve("file:secret")
    path.write_bytes(b"second-value")
    assert resolver.resolve("file:secret") == "second-value"
    assert resolver.values == {"first-value", "second-value"}


def test_uses_are_counted_by_reference(tmp_path: Path) -> None:
    """The audit trail tells which secrets a run used; the count tells a run's uses from those before it."""
    resolver = SecretResolver({"A": "first-value", "B": "second-value"}, tmp_path)
    for reference in ("env:A", "env:A", "env:B"):
        resolver.resolve(reference)
    assert resolver.uses == {"env:A": 2, "env:B": 1}


def test_short_lived_values_are_remembered_and_forgotten_again(tmp_path: Path) -> None:
    """A daemon is given a token every half minute for months; each log line is compared with all of them."""
    resolver = SecretResolver({"PASSWORD": "a-lasting-password"}, tmp_path)
    resolver.resolve("env:PASSWORD")
    for number in range(1000):
        resolver.register_passing([f"token-{number}"])
    assert {"token-999", "token-998", "a-lasting-password"} <= resolver.values
    assert "token-0" not in resolver.values
    assert len(resolver.values) < 100
