"""Private keys and pins in the forms in which people have them."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mlc_dagster.sftp import KeyUnreadable, PinUnreadable
from mlc_dagster.sftp.keys import load_private_key, parse_pin, parse_pins
from mlc_dagster_tests.servers.sshd import fingerprint_of, new_private_key, public_line

KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ecdsa": ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
PASSPHRASE = "correct horse"


def key_text(kind: str, form: PrivateFormat, passphrase: str | None) -> str:
    encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return KEYS[kind].private_bytes(Encoding.PEM, form, encryption).decode()


def public_fingerprint(kind: str) -> str:
    return fingerprint_of(
        KEYS[kind].public_key().public_bytes(Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    )


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *((kind, PrivateFormat.OpenSSH) for kind in KEYS),
        *((kind, PrivateFormat.PKCS8) for kind in KEYS),
        ("rsa", PrivateFormat.TraditionalOpenSSL),
        ("ecdsa", PrivateFormat.TraditionalOpenSSL),
    ],
)
def test_every_format_loads(kind: str, form: PrivateFormat, passphrase: str | None) -> None:
    """PKCS#8 is what openssl writes and paramiko cannot read; partners send whatever their tool makes."""
    loaded = load_private_key(key_text(kind, form, passphrase), passphrase)
    assert loaded.can_sign()
    assert loaded.fingerprint == public_fingerprint(kind)


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n" + text,
        lambda text: "\ufeff" + text,
        lambda text: "\n".join("    " + line for line in text.splitlines()),
        lambda text: text.strip().replace("\n", "\\n"),
    ],
    ids=["crlf", "no-final-newline", "leading-lines", "byte-order-mark", "indented", "one-line"],
)
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_text_that_was_carried_around_loads(mangle: Any, form: PrivateFormat) -> None:
    """Windows editors, YAML blocks and environment variables change line ends and edges, not the key."""
    assert load_private_key(mangle(key_text("ed25519", form, None))).fingerprint == public_fingerprint("ed25519")


def test_a_needless_passphrase_is_no_obstacle() -> None:
    """The partner removed the passphrase and nobody removed it from the configuration."""
    loaded = load_private_key(key_text("rsa", PrivateFormat.PKCS8, None), PASSPHRASE)
    assert loaded.fingerprint == public_fingerprint("rsa")


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_missing_passphrase_is_named(form: PrivateFormat) -> None:
    """The remedy is one line of configuration, so the error names it."""
    with pytest.raises(KeyUnreadable, match="passphrase is absent"):
        load_private_key(key_text("ed25519", form, PASSPHRASE))


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_wrong_passphrase_is_named(form: PrivateFormat) -> None:
    """And the passphrase that was tried is not shown."""
    with pytest.raises(KeyUnreadable, match="passphrase is wrong") as caught:
        load_private_key(key_text("ed25519", form, PASSPHRASE), "canary-77")
    assert "canary-77" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (public_line(new_private_key()), "public key"),
        ("-----BEGIN RSA PUBLIC KEY-----\nMIIB\n-----END RSA PUBLIC KEY-----\n", "public key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTYgen"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "certificate"),
        ("hunter2", "not a whole"),
        ("", "not a whole"),
    ],
    ids=["public", "public-pkcs1", "putty", "certificate", "password", "empty"],
)
def test_what_is_no_private_key_is_named(text: str, words: str) -> None:
    """The usual mix-ups each get their own sentence."""
    with pytest.raises(KeyUnreadable, match=words):
        load_private_key(text)


def test_a_cut_off_key_is_unreadable_and_stays_secret() -> None:
    """Half a key is still half of a secret."""
    text = key_text("rsa", PrivateFormat.PKCS8, None)
    half = text[: len(text) // 2]
    with pytest.raises(KeyUnreadable) as caught:
        load_private_key(half)
    assert [line for line in half.splitlines() if line in str(caught.value)] == []


def test_a_key_that_ssh_has_no_use_for_is_refused_with_the_remedy() -> None:
    """Ed448 and DSA keys load well and would fail only at the login."""
    text = ed448.Ed448PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(KeyUnreadable, match="ed25519"):
        load_private_key(text)


LINE = public_line(new_private_key())
FINGERPRINT = fingerprint_of(LINE)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        (FINGERPRINT, None),
        (f"  {FINGERPRINT}=\n", None),
        (LINE, "ssh-ed25519"),
        (f"[sftp.example.com]:2222,[192.0.2.1]:2222 {LINE} a comment", "ssh-ed25519"),
        (f"|1|c2FsdA==|aGFzaA== {LINE}", "ssh-ed25519"),
    ],
    ids=["fingerprint", "padded", "line", "hosts-and-comment", "hashed-host"],
)
def test_pins_are_read_in_both_forms(text: str, family: str | None) -> None:
    """What ssh-keygen -l prints and what ssh-keyscan prints mean the same key."""
    pin = parse_pin(text)
    assert (pin.fingerprint, pin.family) == (FINGERPRINT, family)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SHA256:tooshort", "43"),
        ("SHA256:" + "*" * 43, "base64"),
        ("MD5:" + ":".join(["ab"] * 16), "MD5"),
        (":".join(["ab"] * 16), "MD5"),
        (f"@revoked * {LINE}", "@revoked"),
        (f"@cert-authority *.example.com {LINE}", "@cert-authority"),
        ("sftp.example.com ssh-ed25519 AAAA", "damaged"),
        ("sftp.example.com", "neither"),
        ("", "neither"),
    ],
    ids=["short", "base64", "md5", "bare-md5", "revoked", "authority", "damaged", "host-only", "empty"],
)
def test_what_is_no_pin_is_refused(text: str, words: str) -> None:
    """A pin that is quietly ignored would be a server that is not checked."""
    with pytest.raises(PinUnreadable, match=words):
        parse_pin(text)


def test_no_pin_is_refused() -> None:
    """A server is never trusted at first sight."""
    with pytest.raises(PinUnreadable, match="no host key"):
        parse_pins([])
