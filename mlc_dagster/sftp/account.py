"""Connects to the account that an ``sftp:`` part of mlc.yaml names: secrets resolved, refused connections tried again.

References become values here, at every connection, so that a rotated secret is used from then on.
"""

import random
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from mlc_dagster.settings import SftpSettings
from mlc_dagster.sftp.errors import Unreachable
from mlc_dagster.sftp.session import SftpCredentials, SftpSession, open_session
from mlc_dagster.vault import SecretResolver

_CONNECTS = 3


@contextmanager
def open_account(
    settings: SftpSettings, secrets: SecretResolver, *, sleep: Callable[[float], None] = time.sleep
) -> Generator[SftpSession]:
    """A connection; refused or dropped ones are tried again, with jitter.

    A busy OpenSSH drops new connections at random. A login that was answered with no is never repeated here.

    Args:
        settings: the account.
        secrets: resolves its references.
        sleep: waits between two attempts, in seconds.

    Raises:
        SecretError: a reference cannot be resolved.
        SftpError: as ``open_session``.
    """
    credentials = SftpCredentials(
        password=secrets.resolve(settings.password) if settings.password else None,
        private_key=secrets.resolve(settings.private_key) if settings.private_key else None,
        passphrase=secrets.resolve(settings.passphrase) if settings.passphrase else None,
    )
    with ExitStack() as stack:
        yield _connect(stack, settings, credentials, sleep)


def _connect(
    stack: ExitStack, settings: SftpSettings, credentials: SftpCredentials, sleep: Callable[[float], None]
) -> SftpSession:
    for attempt in range(1, _CONNECTS):
        try:
            return stack.enter_context(open_session(settings, credentials))
        except Unreachable:
            sleep(random.uniform(0.2, 1.0) * attempt)
    return stack.enter_context(open_session(settings, credentials))
