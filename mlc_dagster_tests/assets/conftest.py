"""The running flow, for tests of assets."""

from mlc_dagster_tests.automation.fixtures import flow, remote

__all__ = ["flow", "remote"]
