"""Private keys from text, for SSH, for TLS and for signing.

What belongs here: reading them from the forms people have them in, and saying what is wrong without quoting the text.
What does not: where the text comes from, and which kinds of key somebody accepts.
"""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_FOREIGN_FORMATS = {
    "PuTTY-User-Key-File": "is a PuTTY .ppk file; export it as an OpenSSH key with PuTTYgen",
    "BEGIN PUBLIC KEY": "is a public key; give the private half",
    "BEGIN RSA PUBLIC KEY": "is a public key; give the private half",
    "BEGIN SSH2 PUBLIC KEY": "is a public key; give the private half",
    "BEGIN CERTIFICATE": "is a certificate; give the private key",
    "ssh-": "is a public key; give the private half",
    "ecdsa-": "is a public key; give the private half",
}


class PrivateKeyFault(Exception):
    """The text is not a private key that can be read. ``reason`` never quotes it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def read_private_key(text: str, passphrase: str | None = None) -> PrivateKeyTypes:
    r"""The key in ``text``.

    OpenSSH, PKCS#1, SEC1 and PKCS#8, encrypted or not, with CRLF line ends, without the last newline, or with the
    ``\n`` written out as environment variables often carry it. A passphrase that the key does not have is no obstacle.

    Raises:
        PrivateKeyFault: says what is wrong.
    """
    stripped = text.strip().lstrip("\ufeff")
    for mark, reason in _FOREIGN_FORMATS.items():
        if stripped.startswith((mark, f"-----{mark}", f"---- {mark}")):
            raise PrivateKeyFault(reason)
    if "\n" not in stripped:
        stripped = stripped.replace("\\n", "\n")
    pem = ("\n".join(line.strip() for line in stripped.splitlines()) + "\n").encode()
    load = serialization.load_ssh_private_key if b"BEGIN OPENSSH" in pem else serialization.load_pem_private_key
    try:
        return load(pem, passphrase.encode() if passphrase else None)
    except TypeError:
        # cryptography says by TypeError that a passphrase is missing, or was given for a key that has none.
        if passphrase:
            return read_private_key(text)
        raise PrivateKeyFault("is encrypted and its passphrase is absent; add the passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase:
            raise PrivateKeyFault("its passphrase is wrong, or the text is not a whole private key") from None
        raise PrivateKeyFault(
            "is not a whole OpenSSH, PKCS#1 or PKCS#8 private key; check that all lines are there"
        ) from None
