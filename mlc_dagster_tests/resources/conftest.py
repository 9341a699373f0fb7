"""The running flow, for tests of resources."""

from mlc_dagster_tests.automation.fixtures import flow, remote

__all__ = ["flow", "remote"]
