"""The encrypted store: what is in it can be read with the keys only, and one bad row stops nothing else."""

import sqlite3
from pathlib import Path

import pytest

from mlc_dagster.vault import SecretError, SecretText
from mlc_dagster_tests.vault.rooms import AT, change_rows, opened, resolver_in, store_in


def test_value_comes_back_as_it_was_put(tmp_path: Path) -> None:
    """Passwords have spaces, quotes and umlauts; keys have line ends."""
    values = {"password": " hünter'2\" ", "key": "-----BEGIN X-----\nabc\n-----END X-----"}
    store = opened(tmp_path, **values)
    assert {name: store.get(name) for name in values} == values
    assert isinstance(store.get("password"), SecretText)


def test_reference_to_the_store_is_resolved_below_the_data_folder(tmp_path: Path) -> None:
    """``store:`` in mlc.yaml needs no further setting."""
    opened(tmp_path, secret="hunter2")
    assert resolver_in(tmp_path).resolve("store:secret") == "hunter2"


def test_file_shows_nothing_and_is_for_its_owner_only(tmp_path: Path) -> None:
    """Backups and disks are read by more people than the keys."""
    store = opened(tmp_path, secret="hunter2-canary")
    files = list(store.path.parent.iterdir())
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert not any(b"hunter2-canary" in path.read_bytes() for path in files)


def test_changed_value_leaves_the_old_one_nowhere(tmp_path: Path) -> None:
    """A password is often changed because somebody knows it; its sealed form need not stay either."""
    store = opened(tmp_path, secret="hunter2")
    connection = sqlite3.connect(store.path)
    [sealed] = connection.execute("select sealed from secret").fetchone()
    connection.close()
    store.remove("secret", by="anna", at=AT)
    assert not any(sealed in path.read_bytes() for path in store.path.parent.iterdir())


def test_store_keeps_what_a_power_cut_would_take(tmp_path: Path) -> None:
    """The key file is synced; a row that says "set" must be as durable as the answer to the person who set it."""
    store = opened(tmp_path, secret="hunter2")
    with store._connected() as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma synchronous").fetchone() == (2,)


def test_missing_secret_names_the_command(tmp_path: Path) -> None:
    """The person who deploys learns what to type."""
    store = opened(tmp_path)
    with pytest.raises(SecretError, match="store:fusion/secret: is not in the encrypted store; run: mlc secrets set"):
        store.get("fusion/secret")
    assert not store.path.exists()


def test_without_a_key_nothing_is_kept(tmp_path: Path) -> None:
    """Not even a file is made that could be mistaken for a store."""
    store = store_in(tmp_path)
    with pytest.raises(SecretError, match="mlc secrets init"):
        store.put("secret", "hunter2", by="anna", at=AT)
    assert not store.path.exists()


def test_lost_key_stops_its_own_rows_only(tmp_path: Path) -> None:
    """One row that cannot be read must not stop the feeds of all others."""
    store = opened(tmp_path, old="hunter-old")
    lost = store.keys.read().newest
    store.keys.add(note="test")
    store.put("new", "hunter-new", by="anna", at=AT)
    store.keys.keep({store.keys.read().newest})
    with pytest.raises(SecretError, match=f"needs re-entry: sealed with key {lost}.*; run: mlc secrets set old"):
        store.get("old")
    assert store.get("new") == "hunter-new"
    assert {entry.name: bool(entry.fault) for entry in store.entries()} == {"old": True, "new": False}


def test_tampered_row_needs_re_entry(tmp_path: Path) -> None:
    """A row that was changed is not half a secret."""
    store = opened(tmp_path, bad="hunter-bad", good="hunter-good")
    change_rows(store, "update secret set sealed = cast(substr(sealed, 1, 40) || '*' || substr(sealed, 42) as blob)")
    store.put("good", "hunter-good", by="anna", at=AT)
    with pytest.raises(SecretError, match="store:bad: needs re-entry: damaged or changed"):
        store.get("bad")
    assert store.get("good") == "hunter-good"


def test_exchanged_rows_are_found_out(tmp_path: Path) -> None:
    """The partner's password put in place of Fusion's secret would be sent to Oracle, and the other way round."""
    store = opened(tmp_path, ours="hunter-ours", theirs="hunter-theirs")
    change_rows(store, "update secret set sealed = (select sealed from secret where name = 'theirs')")
    with pytest.raises(SecretError, match="store:ours: needs re-entry: sealed under another name"):
        store.get("ours")
    assert store.get("theirs") == "hunter-theirs"


@pytest.mark.parametrize("after", ["set", "removed", "rotated"])
def test_an_older_value_that_is_put_back_is_found_out(tmp_path: Path, after: str) -> None:
    """A password is changed because somebody knows it: a copy of its row must not bring it back."""
    store = opened(tmp_path, secret="hunter-old")
    with store._connected() as connection:
        row = connection.execute("select * from secret").fetchone()
    store.put("secret", "hunter-new", by="anna", at=AT)
    if after == "removed":
        store.remove("secret", by="anna", at=AT)
    if after == "rotated":
        store.rotate(by="anna", at=AT)
        assert store.get("secret") == "hunter-new"
    change_rows(store, "insert or replace into secret values (?, ?, ?, ?, ?)", *row)
    with pytest.raises(SecretError, match=r"store:secret: needs re-entry: .*an older value was put back"):
        store.get("secret")
    [entry] = store.entries()
    assert "older value" in (entry.fault or "")
    assert store.rotate(by="anna", at=AT).unreadable[0].name == "secret"
    store.put("secret", "hunter-newest", by="anna", at=AT)
    assert store.get("secret") == "hunter-newest"


def test_re_entry_heals(tmp_path: Path) -> None:
    """The remedy in the error must work."""
    store = opened(tmp_path, secret="hunter-old")
    change_rows(store, "update secret set sealed = x'00'")
    store.put("secret", "hunter-new", by="anna", at=AT)
    assert store.get("secret") == "hunter-new"
    assert [entry.fault for entry in store.entries()] == [None]


@pytest.mark.parametrize("value", ["", "abc"])
def test_short_value_is_refused(tmp_path: Path, value: str) -> None:
    """It could not be masked in logs without masking half of them, and guards nothing."""
    store = opened(tmp_path)
    with pytest.raises(SecretError, match="fewer than 4 characters"):
        store.put("secret", value, by="anna", at=AT)
    assert store.entries() == []


@pytest.mark.parametrize("name", ["pa$$word", "/hunter", "hunter 2", "store:hunter2", "hunter2" * 30])
def test_name_that_may_be_a_secret_is_not_repeated(tmp_path: Path, name: str) -> None:
    """People paste the value where the name belongs; errors are kept in logs."""
    with pytest.raises(SecretError, match="name of the secret: may have letters") as caught:
        opened(tmp_path).put(name, "hunter2", by="anna", at=AT)
    assert name not in str(caught.value)


def test_who_and_when_are_kept_of_every_change(tmp_path: Path) -> None:
    """Auditors ask who could have known a password, and since when."""
    store = opened(tmp_path, secret="hunter2")
    store.put("secret", "hunter3", by="ben", at=AT)
    store.remove("secret", by="carl", at=AT)
    told = [(change.kind, change.name, change.by, change.at) for change in store.changes()]
    assert told == [
        ("secret.set", "secret", "anna", AT),
        ("secret.set", "secret", "ben", AT),
        ("secret.removed", "secret", "carl", AT),
    ]
    assert "hunter" not in repr(store.changes())


def test_store_open_to_every_user_is_refused(tmp_path: Path) -> None:
    """Sealed or not: who may write it may take secrets away, who may read it may wait for a key to leak."""
    store = opened(tmp_path, secret="hunter2")
    store.path.chmod(0o644)
    with pytest.raises(SecretError, match=r"mode 0644.*chmod 600"):
        store.get("secret")


def test_damaged_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    """A disk that failed is no fault of the product, and the remedy is a backup."""
    store = opened(tmp_path, secret="hunter2")
    for path in store.path.parent.iterdir():
        path.unlink()
    store.path.write_bytes(b"no database" * 1000)
    store.path.chmod(0o600)
    with pytest.raises(SecretError, match=r"secrets.sqlite: cannot be used: file is not a database; .* from a backup"):
        store.get("secret")
