"""One server to be measured, and the kernel's figures about it."""

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
CPUS = len(os.sched_getaffinity(0))
# With these, each error that a host creates captures a backtrace, which costs up to a quarter of the throughput.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if name not in ("RUST_BACKTRACE", "RUST_LIB_BACKTRACE")}


class Server:
    """One server to be measured; it runs in a process tree of its own on a port of its own."""

    def __init__(self, name, path, command, same_answer_as=None):
        """`command` returns the command that listens on an address."""
        self.name, self.path, self.command, self.same_answer_as = name, path, command, same_answer_as
        self.process, self.port, self.log = None, None, STATE / (name.replace(" ", "-") + ".log")

    def start(self, cpu=None):
        """Starts it, on one processor only if `cpu` says which, and returns the seconds from exec to its first 200."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with open(self.log, "w") as log:
            began = time.monotonic()
            self.process = subprocess.Popen(
                pinned(cpu, self.command(f"127.0.0.1:{self.port}")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**ENVIRONMENT, "XDG_CACHE_HOME": str(STATE / "cache")},
            )
        while True:
            answer = self.get()
            took = time.monotonic() - began
            if answer and answer[0] == 200:
                return took
            if self.process.poll() is not None or took > 1200:  # 1000 components may have to be compiled
                sys.exit(f"bench: {self.name} does not answer 200 but {answer}; its log:\n{self.log.read_text()}")
            time.sleep(0.0005)

    def get(self, path=None):
        """Status and body; None where nobody listens yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path or self.path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def ask(self, count):
        """Requests one after the other on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        for _ in range(count):
            connection.request("GET", self.path)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                sys.exit(f"bench: {self.name} answered {response.status}")
        connection.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def cpu(self):
        """CPU seconds of the tree so far."""
        return sum(cpu_of(pid) for pid in tree(self.process.pid))

    def faults(self):
        """Page faults of the tree so far."""
        return sum(int(count) for pid in tree(self.process.pid) for count in stat(pid)[7:10:2])

    def memory(self):
        """RSS and PSS of the tree in MiB."""
        rss = pss = 0
        for pid in tree(self.process.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                rss += int(line.split()[1]) if line.startswith("Rss:") else 0
                pss += int(line.split()[1]) if line.startswith("Pss:") else 0
        return rss / 1024, pss / 1024

    def wrk(self, connections, seconds, path=None):
        """The command of a load with as many requests as possible."""
        # wrk takes whole seconds only.
        return ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", TOP / "tests/bench/wrk.lua",
                f"http://127.0.0.1:{self.port}{path or self.path}"]

    def load(self, connections, seconds, cpu=None):
        """One run of wrk against it, on one processor only if `cpu` says which."""
        server, wrk, everything, began = self.cpu(), children_cpu(), machine_cpu(), time.monotonic()
        output = subprocess.run(
            pinned(cpu, self.wrk(connections, seconds)), check=True, capture_output=True, text=True).stdout
        result = json.loads(output.splitlines()[-1])
        server, wrk = self.cpu() - server, children_cpu() - wrk
        others = machine_cpu() - everything - server - wrk
        return {
            "req/s": result["requests"] / (result["duration"] / 1e6),
            "p50": result["p50"],
            "p99": result["p99"],
            "cpu": server * 1e6 / max(result["requests"], 1),
            "client": wrk * 1e6 / max(result["requests"], 1),
            "errors": result["errors"],
            "others": max(others, 0) / (time.monotonic() - began) / CPUS,
        }

    def steady(self, clients, rate, work):
        """A load with a constant rate while `work` runs; times in milliseconds."""
        load = subprocess.Popen(
            [PEERS / "release/steady", f"127.0.0.1:{self.port}", self.path, str(clients), str(rate)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        work()
        time.sleep(0.3)
        result = json.loads(load.communicate()[0])
        return {column: value / 1000 if column in ("gap", "p50", "p99", "max") else value
                for column, value in result.items()}


def pinned(cpu, command):
    return command if cpu is None else ["taskset", "-c", str(cpu), *command]


def stat(pid):
    """The fields of /proc/PID/stat after the program's name, which may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_of(pid):
    """CPU seconds of a process with the threads that have ended, by the exact clock of clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


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
