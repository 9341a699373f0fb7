"""Private keys as people have them; which of them may log in or sign is asked elsewhere."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mlc_dagster.vault.private_keys import PrivateKeyFault, read_private_key

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def text_of(form: PrivateFormat, passphrase: str | None) -> str:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return KEY.private_bytes(Encoding.PEM, form, encryption).decode()


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_the_same_key_comes_out_of_every_form(form: PrivateFormat, passphrase: str | None) -> None:
    """ssh-keygen, openssl and older tools write three forms; nobody should have to convert one."""
    read = read_private_key(text_of(form, passphrase), passphrase)
    assert isinstance(read, rsa.RSAPrivateKey)
    assert read.private_numbers() == KEY.private_numbers()


@pytest.mark.parametrize(
    ("given", "words"), [(None, "passphrase is absent"), ("canary-77", "passphrase is wrong")], ids=["absent", "wrong"]
)
def test_a_passphrase_fault_shows_neither_key_nor_passphrase(given: str | None, words: str) -> None:
    """The fault ends in a log line."""
    text = text_of(PrivateFormat.PKCS8, "correct horse")
    with pytest.raises(PrivateKeyFault, match=words) as caught:
        read_private_key(text, given)
    assert "canary" not in caught.value.reason
    assert [line for line in text.splitlines() if line in caught.value.reason] == []
