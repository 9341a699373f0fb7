"""Who this process is, and whether another is gone: so that a killed run stalls nobody until its lease runs out.

A process is named by host, pid and its start time, because pids are used again.
"""

import socket
from pathlib import Path


def _start_ticks(pid: int) -> str | None:
    """Start time of a live process in clock ticks since boot (field 22 of /proc/PID/stat); None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie runs no more code: its parent has just not collected it yet.
    return None if fields[0] in ("Z", "X") else fields[19]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    """Pids mean something within their namespace only: containers on a host's network share its name, not its pids."""
    try:
        return Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""


def process_name(pid: int) -> str:
    """``host|boot/namespace|pid|start`` of a live process on this host."""
    return f"{socket.gethostname()}|{_boot_id()}/{_pid_namespace()}|{pid}|{_start_ticks(pid) or ''}"


def process_is_gone(name: str) -> bool:
    """True only when the process certainly runs no more; of another host's process nothing is certain."""
    host, _, rest = name.partition("|")
    boot, _, rest = rest.partition("|")
    pid, _, start = rest.partition("|")
    if host != socket.gethostname() or not pid.isdigit() or not Path("/proc/self/stat").exists():
        return False
    boot, _, namespace = boot.partition("/")
    if boot and boot != _boot_id():
        # A container may share the host's name with its predecessor; a new boot of the machine ended everything.
        return True
    if namespace != _pid_namespace():
        return False
    found = _start_ticks(int(pid))
    return found is None or (bool(start) and found != start.partition("|")[0])
