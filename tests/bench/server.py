"""One server to be measured, and what the kernel knows of it."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
STATE = TOP / "target/bench/state"
PEERS = TOP / "target/bench/peers"
TICKS = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count()


class Server:
    """One server to be measured; it runs in a process tree of its own on a port of its own."""

    def __init__(self, name, path, command, same_answer_as=None):
        self.name, self.path, self.command, self.same_answer_as = name, path, command, same_answer_as
        self.process, self.port, self.log = None, None, STATE / (name.replace(" ", "-") + ".log")

    def start(self):
        """Starts it and returns the seconds from exec to its first 200."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with open(self.log, "w") as log:
            began = time.monotonic()
            self.process = subprocess.Popen(
                self.command(f"127.0.0.1:{self.port}"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "XDG_CACHE_HOME": str(STATE / "cache")},
            )
        while True:
            answer = self.get()
            took = time.monotonic() - began
            if answer and answer[0] == 200:
                return took
            if self.process.poll() is not None or took > 60:
                sys.exit(f"bench: {self.name} does not answer 200 but {answer}; its log:\n{self.log.read_text()}")
            time.sleep(0.0005)

    def get(self):
        """Status and body; None where nobody listens yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", self.path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu(self):
        """CPU seconds of the tree so far, threads and children that ended included."""
        return sum(cpu_of(pid) for pid in tree(self.process.pid))

    def memory(self):
        """RSS and PSS of the tree in MiB."""
        rss = pss = 0
        for pid in tree(self.process.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                rss += int(line.split()[1]) if line.startswith("Rss:") else 0
                pss += int(line.split()[1]) if line.startswith("Pss:") else 0
        return rss / 1024, pss / 1024

    def load(self, connections, seconds):
        """One run of wrk against it."""
        server, wrk, everything, began = self.cpu(), children_cpu(), machine_cpu(), time.monotonic()
        output = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(TOP / "tests/bench/wrk.lua"),
             f"http://127.0.0.1:{self.port}{self.path}"],
            check=True, capture_output=True, text=True,
        ).stdout
        result = json.loads(output.splitlines()[-1])
        server, wrk = self.cpu() - server, children_cpu() - wrk
        others = machine_cpu() - everything - server - wrk
        return {
            "req/s": result["requests"] / (result["duration"] / 1e6),
            "p50": result["p50"],
            "p99": result["p99"],
            "cpu": server * 1e6 / max(result["requests"], 1),
            "errors": result["errors"],
            "others": max(others, 0) / (time.monotonic() - began) / CPUS,
        }


def stat(pid):
    """The fields of /proc/PID/stat after the program's name, which may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_of(pid):
    return sum(int(ticks) for ticks in stat(pid)[11:15]) / TICKS


def tree(root):
    """`root` and all that descend from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents.setdefault(int(stat(entry)[1]), []).append(int(entry))
            except OSError:
                pass  # it ended meanwhile
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine_cpu():
    """CPU seconds that programs of the whole machine have used: user, nice, system."""
    return sum(int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:4]) / TICKS
