"""``vault:path#key`` - one field of a secret in HashiCorp Vault's key-value engine, version 2.

What belongs here: asking, and what each refusal means. What does not: leases, and engines that make passwords. The
client, hvac, comes with the extra ``vault`` and is imported when the first such reference is resolved.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from mlc_dagster.settings.secrets import VaultSettings
from mlc_dagster.vault.errors import ProviderDown, SecretError

_REFUSALS: Final = {
    "Forbidden": ("Vault refuses it", "give the token a policy that reads this path, and see that it has not expired"),
    "Unauthorized": ("Vault refuses the token", "renew the token that secrets.vault.token names"),
    "InvalidPath": ("is not in Vault", "compare the path with `vault kv get`; it begins with the engine's mount"),
    "InvalidRequest": ("Vault does not understand the request", "see that the engine there is key-value version 2"),
}
"""hvac's errors by name: what they mean, and what to do. Any other of its errors is Vault's own trouble."""


class VaultProvider:
    """Asks the Vault of ``secrets.vault``; ``resolve`` turns the reference to its token into the token."""

    def __init__(self, settings: VaultSettings | None, root: Path, resolve: Callable[[str], str]) -> None:
        self._settings = settings
        self._root = root
        self._resolve = resolve

    def __repr__(self) -> str:
        """The address."""
        return f"VaultProvider({self._settings.address if self._settings else 'not set up'})"

    def get(self, target: str) -> str:
        """The newest version of the field.

        Raises:
            SecretError: no ``secrets.vault``, no such secret or field, or Vault refuses.
            ProviderDown: Vault does not answer, or is sealed.
        """
        reference, settings = f"vault:{target}", self._settings
        if settings is None:
            raise SecretError(reference, "mlc.yaml does not say where Vault is", "add secrets.vault: address and token")
        path, _, field = target.partition("#")
        mount, path = (settings.mount, path) if settings.mount else cast("tuple[str, str]", path.partition("/")[::2])
        if not mount or not path.strip("/") or not field:
            raise SecretError(reference, "is not vault:MOUNT/PATH#KEY", "such as vault:secret/fusion#client_secret")
        return self._field(reference, field, self._read(reference, settings, mount, path))

    def _read(self, reference: str, settings: VaultSettings, mount: str, path: str) -> Any:
        try:
            # Untyped, and absent unless the extra is installed.
            hvac: Any = import_module("hvac")
        except ModuleNotFoundError:
            fault = "hvac, the client of HashiCorp Vault, is not installed"
            raise SecretError(reference, fault, "install the extra: pip install 'mlc-dagster[vault]'") from None
        client = hvac.Client(
            url=settings.address,
            token=str(self._resolve(settings.token)),
            namespace=settings.namespace,
            verify=str(self._root / settings.ca_bundle) if settings.ca_bundle else True,
            timeout=settings.timeout,
            # The token's header would be sent on to wherever the redirect leads.
            allow_redirects=False,
        )
        try:
            return client.secrets.kv.v2.read_secret_version(path=path, mount_point=mount, raise_on_deleted_version=True)
        except Exception as error:  # noqa: BLE001 - hvac's, requests' and the JSON reader's; texts hold headers
            _refuse(reference, settings, error)
        finally:
            client.adapter.close()

    def _field(self, reference: str, field: str, answer: Any) -> str:
        try:
            fields: dict[str, Any] = answer["data"]["data"]
        except (KeyError, TypeError):
            fault = "Vault's answer is not one of the key-value engine, version 2"
            raise SecretError(reference, fault, "check secrets.vault.address and the mount") from None
        if field not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise SecretError(
                reference, f"the secret has no key {field!r} (it has: {known})", "correct the part after #"
            )
        if not isinstance(fields[field], str):
            raise SecretError(reference, "its value is not text", "write it to Vault as text")
        return fields[field]


def _refuse(reference: str, settings: VaultSettings, error: Exception) -> NoReturn:
    name = type(error).__name__
    if name in _REFUSALS:
        fault, remedy = _REFUSALS[name]
        raise SecretError(reference, fault, remedy) from None
    raise ProviderDown(
        reference,
        f"Vault at {settings.address} does not answer as it should ({name})",
        "see `vault status`: the address, the certificate, and whether it is sealed",
    ) from None
