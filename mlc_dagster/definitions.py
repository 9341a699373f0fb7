"""The one place where everything meets: settings in, Dagster definitions out.

``defs`` is loaded lazily by Dagster: from MLC_CONFIG, else mlc.yaml in the working directory, else the configuration of
the sandbox, so that a fresh clone shows the whole graph. Tests and commands call ``build_defs`` with theirs.
"""

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import dagster as dg

from mlc_dagster.automation.jobs import build_flow, wiring_of
from mlc_dagster.automation.pruning import build_pruning
from mlc_dagster.automation.sensors import build_sensors
from mlc_dagster.resources import Progress
from mlc_dagster.settings import Settings
from mlc_dagster.settings_file import find_settings_file, load_settings, parse_settings

SANDBOX_FOLDER = ".mlc-sandbox"


def build_defs(
    settings: Settings,
    *,
    resource_overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> dg.Definitions:
    """Everything that Dagster shows and runs for one configuration.

    Args:
        settings: mlc.yaml.
        resource_overrides: resources by key (``fusion``, ``stampli_sftp``, ``ledger``) that replace those of settings.
        environ: what ``env:`` references read; this process's environment when not given.
        progress: hears how runs in this process get on.

    Raises:
        SettingsError: there is no flow in the settings.
    """
    wiring = wiring_of(settings, environ=environ, progress=progress)
    flow = build_flow(wiring, resource_overrides=resource_overrides)
    return dg.Definitions.merge(flow, dg.Definitions(sensors=build_sensors(wiring)), build_pruning(settings, flow))


def definition_settings(environ: Mapping[str, str], working_directory: Path) -> Settings:
    """The settings that the code location shows.

    MLC_CONFIG; else mlc.yaml in the working directory; else what a sandbox wrote to ``.mlc-sandbox`` (or
    MLC_SANDBOX_DIR); else the sandbox configuration that ships with the product.

    Raises:
        SettingsError: the file is missing (MLC_CONFIG points nowhere) or wrong.
    """
    path = find_settings_file(environ, working_directory)
    if path is not None:
        return load_settings(path, environ=environ)
    folder = working_directory / environ.get("MLC_SANDBOX_DIR", SANDBOX_FOLDER)
    written = folder / "mlc.yaml"
    if written.is_file():
        text = written.read_text(encoding="utf-8")
        return parse_settings(text, source=str(written), root=folder.resolve(), environ=environ, sandbox=True)
    shipped = files("mlc_dagster") / "sandbox" / "mlc.yaml"
    text = shipped.read_text(encoding="utf-8")
    return parse_settings(text, source=str(shipped), root=folder.resolve(), environ=environ, sandbox=True)


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads for this code location."""
    return build_defs(definition_settings(os.environ, Path.cwd()))
