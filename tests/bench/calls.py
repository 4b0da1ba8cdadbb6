"""System calls and page faults per request, for a known number of requests on one connection."""

import shutil
import signal
import subprocess
from collections import Counter

from server import STATE
from tables import table

WARM, FAULTS, CALLS = 2000, 5000, 1000
# Calls of timers depend on the time that passes, and strace makes a request take longer.
TIMERS = {"clock_nanosleep", "restart_syscall"}


def measure(every):
    rows = []
    for server in every:
        server.start()
        server.ask(WARM)
        before = server.faults()
        server.ask(FAULTS)
        faults = (server.faults() - before) / FAULTS
        calls, reason = traced(server)
        server.stop()
        if calls is None:
            rows.append([server.name, f"{faults:.3f}", "–", reason])
        else:
            each = [(name, count / CALLS) for name, count in calls.most_common()]
            often = ", ".join(f"{name} {count:.1f}" for name, count in each if count >= 0.05)
            rows.append([server.name, f"{faults:.3f}", f"{sum(calls.values()) / CALLS:.2f}", often])
    print("## Page faults and system calls per request, one connection\n")
    table(["server", "faults", "calls", "of which"], rows)
    print(f"strace counts the calls, in a run of their own, without those of timers ({', '.join(sorted(TIMERS))}).\n",
          flush=True)


def traced(server):
    """The calls by name, or None and the reason."""
    if not shutil.which("strace"):
        return None, "strace is missing; run tests/setup bench"
    output = STATE / "strace"
    # The first line says that it is attached, to all threads, or why it cannot be.
    strace = subprocess.Popen(
        ["strace", "-c", "-f", "-U", "name,calls", "-o", output, "-p", str(server.process.pid)],
        stderr=subprocess.PIPE, text=True)
    first = strace.stderr.readline().strip()
    if "attached" in first:
        server.ask(CALLS)
    strace.send_signal(signal.SIGINT)
    strace.communicate()
    if "attached" not in first:
        return None, first
    calls = Counter()
    for line in output.read_text().splitlines():
        name, _, count = line.strip().partition(" ")
        if count.strip().isdigit() and name not in TIMERS | {"total"}:
            calls[name] = int(count)
    return calls, None
