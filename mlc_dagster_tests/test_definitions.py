"""What Dagster is told: the snapshot of the graph, where its settings come from, and how light the import is."""

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from syrupy.assertion import SnapshotAssertion

from mlc_dagster.definitions import build_defs, definition_settings
from mlc_dagster.settings import Settings, SettingsError
from mlc_dagster.settings_file import load_settings, parse_settings

SHIPPED = Path(__file__).resolve().parent.parent / "mlc_dagster" / "sandbox" / "mlc.yaml"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A customer's settings: those of the sandbox, in a file of their own."""
    return parse_settings(SHIPPED.read_text(encoding="utf-8"), source="mlc.yaml", root=tmp_path, environ={})


def described(defs: dg.Definitions) -> dict[str, Any]:
    """Everything that people link to, subscribe to or rely on."""
    repository = defs.get_repository_def()
    graph = repository.asset_graph
    specs = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
    return {
        "assets": {
            key.to_user_string(): {
                "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
                "group": spec.group_name,
                "kinds": sorted(spec.kinds),
                "owners": list(spec.owners),
                "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/")},
                "code_version": spec.code_version,
                "partitions": str(spec.partitions_def),
                "columns": [column.name for column in spec.metadata["dagster/column_schema"].columns],
                "described": bool(spec.description),
            }
            for key, spec in sorted(specs.items())
        },
        "checks": {
            f"{key.asset_key.to_user_string()}:{key.name}": {"blocking": graph.get_check_spec(key).blocking}
            for key in sorted(graph.asset_check_keys)
        },
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in repository.get_all_jobs()
            if not job.name.startswith("__")
        },
        "sensors": {
            sensor.name: {
                "status": sensor.default_status.value,
                "jobs": [target.job_name for target in sensor.targets],
                "every": sensor.minimum_interval_seconds,
            }
            for sensor in repository.sensor_defs
        },
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
        "resources": sorted(repository.get_top_level_resources()),
        "executor": defs.executor.name if isinstance(defs.executor, dg.ExecutorDefinition) else None,
    }


def test_graph_is_what_people_link_to(settings: Settings, snapshot: SnapshotAssertion) -> None:
    """Names of assets, checks and jobs are in bookmarks, alerts and audit papers: a change must be meant."""
    assert described(build_defs(settings, environ={})) == snapshot


def test_sandbox_is_stopped_and_says_so(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """A fresh clone must not poll anything by itself, and nobody may take the sandbox for production."""
    defs = build_defs(definition_settings({}, tmp_path), environ={})
    shown = described(defs)
    assert {asset["group"] for asset in shown["assets"].values()} == {
        "stampli_to_fusion_SANDBOX",
        "fusion_to_sftp_SANDBOX",
    }
    assert {sensor["status"] for sensor in shown["sensors"].values()} == {"STOPPED"}
    assert shown == snapshot


def test_everything_loads(settings: Settings) -> None:
    """What Dagster checks when it loads the code location."""
    dg.Definitions.validate_loadable(build_defs(settings, environ={}))


def partitions_of(settings: Settings, group: str) -> dg.TimeWindowPartitionsDefinition:
    """The one partitions object of a flow's window assets."""
    specs = [spec for spec in build_defs(settings, environ={}).resolve_all_asset_specs() if spec.group_name == group]
    [windows] = {id(spec.partitions_def): spec.partitions_def for spec in specs if spec.partitions_def}.values()
    assert isinstance(windows, dg.TimeWindowPartitionsDefinition)
    return windows


AT = dt.datetime(2026, 5, 1, 12, 7, tzinfo=dt.UTC)


def test_window_assets_share_one_partitions_object(settings: Settings) -> None:
    """Dagster maps partitions one to one only within the same definition; the open window is one of them."""
    windows = partitions_of(settings, "stampli_to_fusion")
    assert windows.get_partition_keys(current_time=AT)[-1] == "2026-05-01-12:00"


def test_outbound_windows_are_closed_ones(settings: Settings) -> None:
    """What is still being written cannot be read whole: the open window is no partition of what leaves Fusion."""
    windows = partitions_of(settings, "fusion_to_sftp")
    assert windows.get_partition_keys(current_time=AT)[-1] == "2026-05-01-11:45"


def test_resource_can_be_replaced_wherever_it_is_used(settings: Settings) -> None:
    """Tests and rehearsals put another Fusion in its place, and every asset must use that one."""
    from mlc_dagster.resources import FusionResource

    other = FusionResource(
        base_url="http://127.0.0.1:1", token_url="http://127.0.0.1:1/t", client_id="c", client_secret="env:X", scope="s"
    )
    resources = build_defs(settings, resource_overrides={"fusion": other}, environ={}).resources or {}
    assert resources["fusion"] is other
    assert resources["inbound"].fusion.base_url == "http://127.0.0.1:1"


def test_settings_without_a_flow_are_refused(settings: Settings) -> None:
    """An empty graph would look like a broken installation."""
    with pytest.raises(SettingsError, match="no flow to run"):
        build_defs(settings.model_copy(update={"stampli": None, "exports": []}), environ={})


@pytest.mark.parametrize(
    ("absent", "job"), [({"stampli": None}, "fusion_to_sftp"), ({"exports": []}, "stampli_to_fusion")]
)
def test_one_flow_is_fine(settings: Settings, absent: dict[str, object], job: str) -> None:
    """Many use the product in one direction only; the other's assets must not ask for settings that nobody has."""
    defs = build_defs(settings.model_copy(update=absent), environ={})
    dg.Definitions.validate_loadable(defs)
    assert job in {each.name for each in defs.get_repository_def().get_all_jobs()}


def test_config_variable_that_points_nowhere_is_an_error(tmp_path: Path) -> None:
    """Falling back to the sandbox would post a rehearsal's numbers into reports, or nothing at all."""
    with pytest.raises(SettingsError, match="no such file"):
        definition_settings({"MLC_CONFIG": str(tmp_path / "absent.yaml")}, tmp_path)


def test_mlc_yaml_of_the_working_directory_is_used(tmp_path: Path) -> None:
    """As documented: MLC_CONFIG, then the working directory."""
    (tmp_path / "mlc.yaml").write_text(SHIPPED.read_text(encoding="utf-8"), encoding="utf-8")
    found = definition_settings({}, tmp_path)
    assert (found.sandbox, found.root) == (False, tmp_path)
    assert found == load_settings(tmp_path / "mlc.yaml", environ={})


@pytest.mark.parametrize("environ", [{}, {"MLC_SANDBOX_DIR": "elsewhere"}])
def test_running_sandboxs_own_configuration_is_used(tmp_path: Path, environ: dict[str, str]) -> None:
    """`mlc sandbox` writes its ports and its host key there; without them nothing could be run."""
    folder = tmp_path / environ.get("MLC_SANDBOX_DIR", ".mlc-sandbox")
    folder.mkdir()
    (folder / "mlc.yaml").write_text(SHIPPED.read_text(encoding="utf-8").replace("8922", "4711"), encoding="utf-8")
    found = definition_settings(environ, tmp_path)
    assert found.sandbox
    assert found.root == folder
    assert found.stampli is not None
    assert found.stampli.sftp.port == 4711


def test_definitions_import_no_connector() -> None:
    """Every run and every tick's process imports this module; paramiko, httpx and polars cost it seconds."""
    code = (
        "import sys; from mlc_dagster.definitions import build_defs, definition_settings; from pathlib import Path;"
        "build_defs(definition_settings({}, Path('/nowhere')), environ={});"
        "print([name for name in ('paramiko', 'httpx', 'aiohttp', 'polars', 'cryptography') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_import_alone_reads_no_configuration() -> None:
    """The command imports the module for its own settings; a broken mlc.yaml elsewhere is none of its business."""
    code = "import mlc_dagster.definitions"
    environ = {"MLC_CONFIG": "/nowhere/mlc.yaml", "PATH": "/usr/bin"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert result.stderr == ""
    assert result.returncode == 0
