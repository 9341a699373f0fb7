"""Which algorithms are spoken: the strong ones always, a weak one only when the server's entry allows it by name.

What belongs here: the lists, and the paramiko transport that knows them. What does not: connecting (``connection``).
paramiko 5 dropped signatures and key exchanges with SHA-1; a server that knows nothing newer is reached by teaching
them to one transport, never to the library.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import paramiko
from cryptography.hazmat.primitives import hashes
from paramiko.kex_gex import KexGexSHA256
from paramiko.kex_group14 import KexGroup14SHA256

from mlc_dagster.settings.sftp import WEAK_ALGORITHMS

from .keys import HOST_KEY_FAMILIES

# AES-GCM first: one pass instead of AES and HMAC, a fifth faster. CTR stays for older servers; CBC, 3DES, MD5 and
# SHA-1, which paramiko still offers, do not (CVE-2023-48795 concerned CBC with encrypt-then-MAC).
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")

SHA1_SIGNATURES = "ssh-rsa"


class _Sha1HostKey(paramiko.RSAKey):
    HASHES = {SHA1_SIGNATURES: hashes.SHA1}  # noqa: RUF012  # pyright: ignore[reportGeneralTypeIssues]


class Sha1ClientKey(paramiko.RSAKey):
    """An RSA key that can also sign the way servers before 2017 ask for."""

    HASHES = {**paramiko.RSAKey.HASHES, SHA1_SIGNATURES: hashes.SHA1}  # noqa: RUF012  # pyright: ignore[reportGeneralTypeIssues]


class _Group14Sha1(KexGroup14SHA256):
    name = "diffie-hellman-group14-sha1"
    hash_algo = hashlib.sha1


class _Group1Sha1(_Group14Sha1):
    name = "diffie-hellman-group1-sha1"
    # The second Oakley group of RFC 2409, 1024 bits.
    P = int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
        "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
        "49286651ECE65381FFFFFFFFFFFFFFFF",
        16,
    )


class _GroupExchangeSha1(KexGexSHA256):
    name = "diffie-hellman-group-exchange-sha1"
    hash_algo = hashlib.sha1


_SHA1_EXCHANGES = {kex.name: kex for kex in (_GroupExchangeSha1, _Group14Sha1, _Group1Sha1)}


class Offer(NamedTuple):
    """What a server offers, by kind, in its order."""

    kex: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()


class Transport(paramiko.Transport):
    """paramiko's transport, which remembers what the server offered and speaks the weak algorithms it was given."""

    # paramiko has no public place for these; were they renamed, the tests against old servers would fail.
    _key_info = {**vars(paramiko.Transport)["_key_info"], SHA1_SIGNATURES: _Sha1HostKey}  # noqa: RUF012
    _kex_info = {**vars(paramiko.Transport)["_kex_info"], **_SHA1_EXCHANGES}  # noqa: RUF012

    offer = Offer()
    sha1_login = False
    """True when RSA keys may log in with a SHA-1 signature."""

    def _really_parse_kex_init(self, m: Any, ignore_first_byte: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        parent: Any = super()
        parsed: dict[str, Any] = parent._really_parse_kex_init(m, ignore_first_byte)  # noqa: SLF001
        names = ("kex_algo_list", "server_key_algo_list", "server_encrypt_algo_list", "server_mac_algo_list")
        self.offer = Offer(*(tuple(parsed[name]) for name in names))
        return parsed

    @property
    def preferred_pubkeys(self) -> Sequence[str]:
        extensions: dict[str, bytes] = vars(self)["server_extensions"]
        if not self.sha1_login:
            return super().preferred_pubkeys
        # A server that does not say which signatures it verifies is older than all but SHA-1.
        strong = tuple(super().preferred_pubkeys)
        return (*strong, SHA1_SIGNATURES) if "server-sig-algs" in extensions else (SHA1_SIGNATURES,)


def signatures(families: Sequence[str], allowed: Collection[str]) -> list[str]:
    """Signature algorithms of host keys of these types, strong ones first."""
    names = [algorithm for family in families for algorithm in HOST_KEY_FAMILIES[family]]
    return names + [SHA1_SIGNATURES] * (SHA1_SIGNATURES in families and SHA1_SIGNATURES in allowed)


def restrict(transport: Transport, families: Sequence[str], allowed: Collection[str]) -> None:
    """Has ``transport`` offer strong algorithms and, after them, the weak ones in ``allowed``; before it connects."""
    weak = [name for name in WEAK_ALGORITHMS if name in allowed]
    options = transport.get_security_options()
    options.ciphers = (*CIPHERS, *(name for name in weak if name.endswith("-cbc")))
    options.digests = (*MACS, *(name for name in weak if name.startswith("hmac-")))
    options.kex = (*options.kex, *(name for name in weak if name in _SHA1_EXCHANGES))
    options.key_types = signatures(families, allowed)
    transport.sha1_login = SHA1_SIGNATURES in allowed


def missing(transport: Transport) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(kind, names offered) for each kind of algorithm of which the server offers none that is spoken to it."""
    options = transport.get_security_options()
    offer = transport.offer
    for kind, offered, spoken in (
        ("key exchange", offer.kex, options.kex),
        ("host key", offer.host_keys, options.key_types),
        ("cipher", offer.ciphers, options.ciphers),
        ("MAC", offer.macs, options.digests),
    ):
        real = tuple(name for name in offered if not name.startswith(("kex-strict-", "ext-info-")))
        if not set(real) & set(spoken):
            yield kind, real
