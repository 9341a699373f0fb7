"""The running flow, for tests of checks."""

from mlc_dagster_tests.automation.fixtures import flow, remote

__all__ = ["flow", "remote"]
