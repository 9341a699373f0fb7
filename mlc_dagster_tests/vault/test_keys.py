"""Keys are made by a command only, kept from other users, never shown, and replaced without a moment without them."""

import base64
import hashlib
import os
from pathlib import Path

import pytest

from mlc_dagster.vault import SecretError
from mlc_dagster.vault.keys import KeyRing, KeySource, Unreadable, key_id, new_key


@pytest.fixture
def source(tmp_path: Path) -> KeySource:
    return KeySource({}, tmp_path / "mlc.keys")


def test_key_is_32_random_bytes() -> None:
    """A passphrase would be guessed; the store offers no place for one."""
    keys = {str(new_key()) for _ in range(20)}
    assert len(keys) == 20
    assert {len(base64.urlsafe_b64decode(key)) for key in keys} == {32}


def test_key_id_is_the_beginning_of_its_hash() -> None:
    """Auditors can tell from a copy of the keys, without the product, which one a row needs."""
    key = new_key()
    assert key_id(key) == hashlib.sha256(base64.urlsafe_b64decode(key)).hexdigest()[:8]


def test_key_file_is_for_its_owner_only(source: KeySource) -> None:
    """Whoever reads the keys reads every secret."""
    os.umask(os.umask(0))  # Whatever the umask is.
    made = source.create(note="test")
    assert source.path.stat().st_mode & 0o777 == 0o600
    assert source.read().ids == (made,)


def test_second_init_keeps_the_first_key(source: KeySource) -> None:
    """A key that is overwritten orphans everything that it sealed."""
    made = source.create(note="test")
    with pytest.raises(SecretError, match="exists; it is kept; a new key: mlc secrets rotate"):
        source.create(note="again")
    assert source.read().ids == (made,)


def test_no_key_says_how_to_make_one_and_makes_none(source: KeySource) -> None:
    """A key made in silence would seal new secrets and leave the old ones unreadable."""
    with pytest.raises(SecretError, match=r"make one with `mlc secrets init`.*or set MLC_SECRET_KEYS"):
        source.read("store:fusion/secret")
    assert not source.path.exists()


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n"])
def test_file_without_a_key_is_no_plain_text_mode(source: KeySource, text: str) -> None:
    """An empty key once meant in other products that secrets were kept in plain text."""
    source.path.write_text(text)
    source.path.chmod(0o600)
    with pytest.raises(SecretError, match="holds no key"):
        source.read()


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_empty_variable_is_an_error_not_a_fallback(tmp_path: Path, value: str) -> None:
    """A deployment that lost its keys must not go on with another file that happens to lie there."""
    KeySource({}, tmp_path / "mlc.keys").create(note="test")
    with pytest.raises(SecretError, match="MLC_SECRET_KEYS holds no key"):
        KeySource({"MLC_SECRET_KEYS": value}, tmp_path / "mlc.keys").read()


def test_variable_wins_over_the_file(source: KeySource) -> None:
    """Containers get their keys from outside; a file in the image must not decide."""
    source.create(note="test")
    newest, older = str(new_key()), str(new_key())
    ring = KeySource({"MLC_SECRET_KEYS": f"{newest}, {older}"}, source.path).read()
    assert ring.ids == (key_id(newest), key_id(older))


@pytest.mark.parametrize("mode", [0o644, 0o602])
def test_key_file_open_to_every_user_is_refused(source: KeySource, mode: int) -> None:
    """The same rule as for every other file with a secret in it, with the command that cures it."""
    source.create(note="test")
    source.path.chmod(mode)
    with pytest.raises(SecretError, match=f"mode {mode:04o}.*chmod 600"):
        source.read()


def test_malformed_key_is_named_by_its_number_only(source: KeySource) -> None:
    """A key that lost one character in the clipboard is nearly a key."""
    damaged = str(new_key())[:-2]
    source.path.write_text(f"{new_key()}\n{damaged}\n")
    source.path.chmod(0o600)
    with pytest.raises(SecretError, match="line 2 is not 32 bytes") as caught:
        source.read()
    assert damaged not in str(caught.value)


def test_comments_and_other_keys_survive_a_new_key(source: KeySource) -> None:
    """People write down what a key is for; the file stays theirs."""
    first = source.create(note="first of all")
    added = source.add(note="second")
    lines = source.path.read_text().splitlines()
    assert lines[0].startswith("# Keys of mlc's encrypted store")
    assert source.read().ids == (added, first)
    assert lines[-1].endswith(f"# {first} first of all")
    assert source.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in source.path.parent.iterdir()] == ["mlc.keys"]


def test_keys_are_replaced_behind_a_link(source: KeySource, tmp_path: Path) -> None:
    """Deployments link the file from elsewhere; replacing the link would leave two files of keys."""
    real = tmp_path / "elsewhere" / "keys"
    real.parent.mkdir()
    KeySource({}, real).create(note="test")
    source.path.symlink_to(real)
    added = source.add(note="second")
    assert source.path.is_symlink()
    assert KeySource({}, real).read().newest == added


def test_only_named_keys_are_kept(source: KeySource) -> None:
    """What is taken out is gone with its comment; what is kept stays in its order."""
    first, second, third = source.create(note="1"), source.add(note="2"), source.add(note="3")
    assert source.keep({first, third}) == [second]
    assert source.read().ids == (third, first)
    assert second not in source.path.read_text()


def test_value_sealed_under_one_name_cannot_be_read_under_another() -> None:
    """Who can write rows but has no key could otherwise send our password to another partner's server."""
    ring = KeyRing([new_key()])
    sealed = ring.seal("fusion/secret", "hunter2", "1")
    with pytest.raises(Unreadable, match="rows were exchanged"):
        ring.open("partner/password", ring.newest, sealed, "1")


def test_no_key_is_in_a_repr() -> None:
    """Tracebacks with local variables print reprs."""
    key = new_key()
    shown = f"{KeyRing([key])!r} {key!r} {KeySource({'MLC_SECRET_KEYS': key}, Path('x'))!r}"
    assert str(key) not in shown
    assert key_id(key) in shown
