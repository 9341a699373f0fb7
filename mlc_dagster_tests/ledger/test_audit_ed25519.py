"""The verifier's own Ed25519: it must agree with RFC 8032 and with a library that shares no line with it."""

import ast
import random
from importlib.resources import files

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mlc_dagster.ledger.evidence_verifier import Q, signature_holds

VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
            "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]
"""RFC 8032 section 7.1: tests 1, 2, 3 and SHA(abc)."""


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc_hold(public: str, message: str, signature: str) -> None:
    """Published signatures, and the same with one bit of message or signature turned."""
    key, text, signed = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert signature_holds(key, text, signed)
    assert not signature_holds(key, text + b"\x00", signed)
    assert not signature_holds(key, text, signed[:40] + bytes([signed[40] ^ 1]) + signed[41:])


def holds_by_cryptography(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_it_agrees_with_the_library() -> None:
    """Good signatures, and ones with a byte changed anywhere in key, message or signature."""
    rng = random.Random(8032)
    for number in range(25):
        private = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        public, message = private.public_key().public_bytes_raw(), rng.randbytes(number * 3)
        parts = [public, message, private.sign(message)]
        assert signature_holds(*parts)
        which = rng.choice([0, 2] if not message else [0, 1, 2])
        place = rng.randrange(len(parts[which]))
        changed = bytearray(parts[which])
        changed[place] ^= 1 << rng.randrange(8)
        parts[which] = bytes(changed)
        assert signature_holds(*parts) is holds_by_cryptography(*parts) is False


def test_a_second_spelling_of_a_signature_is_refused() -> None:
    """S plus the group's order would verify as well; RFC 8032 wants S below it."""
    key, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    other = int.from_bytes(signature[32:], "little") + Q
    assert not signature_holds(key, message, signature[:32] + other.to_bytes(32, "little"))


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 31, b"\xff" * 32, (2).to_bytes(32, "little")])
def test_what_is_no_key_verifies_nothing(wrong: bytes) -> None:
    """Too short, beyond the field, or not on the curve: refused, not raised."""
    assert not signature_holds(wrong, b"", bytes.fromhex(VECTORS[0][2]))


def test_the_verifier_is_python_3_9_and_the_standard_library() -> None:
    """An auditor's machine has some Python and nothing else."""
    source = (files("mlc_dagster.ledger") / "evidence_verifier.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = "__future__ argparse base64 collections.abc csv decimal hashlib io json pathlib sys typing zipfile"
    assert names == set(allowed.split())
