"""Whether another process is gone: yes only when it is certain, or a live run would lose its window."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_dagster.ledger.process import process_is_gone, process_name

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")


def parts() -> list[str]:
    return process_name(os.getpid()).split("|")


def test_this_process_is_not_gone() -> None:
    """The simplest case, also with what the owner of a lease adds to its name."""
    assert not process_is_gone(process_name(os.getpid()))
    assert not process_is_gone(process_name(os.getpid()) + "|run 7")


def test_a_process_that_ended_is_gone(dead_process: str) -> None:
    """Its lease is free at once."""
    assert process_is_gone(dead_process)


def test_a_pid_used_again_is_another_process() -> None:
    """The start time tells them apart; without it a killed run would seem alive for as long as its pid is used."""
    host, boot, pid, start = parts()
    assert process_is_gone(f"{host}|{boot}|{pid}|{int(start) - 1}")


def test_a_process_of_another_host_is_never_certain() -> None:
    """Its pid says nothing here."""
    _, boot, _, start = parts()
    assert not process_is_gone(f"another-{socket.gethostname()}|{boot}|999999999|{start}")


def test_a_process_of_another_pid_namespace_is_never_certain() -> None:
    """Two containers on the host's network share its name; their pids are not in our /proc."""
    host, boot, _, start = parts()
    assert not process_is_gone(f"{host}|{boot.partition('/')[0]}/pid:[1]|999999999|{start}")


def test_a_process_before_the_last_boot_is_gone() -> None:
    """A new boot ended everything, whatever runs under its pid now."""
    host, boot, pid, start = parts()
    assert process_is_gone(f"{host}|earlier-boot/{boot.partition('/')[2]}|{pid}|{start}")


@pytest.mark.parametrize("name", ["", "free text", f"{socket.gethostname()}|b|not a pid|1"])
def test_a_name_that_names_no_process_is_never_certain(name: str) -> None:
    """Whoever wrote it, only the end of the lease counts then."""
    assert not process_is_gone(name)


def test_a_zombie_is_gone() -> None:
    """A killed run whose parent has not collected it yet executes nothing more."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        name = process_name(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_is_gone(name)
