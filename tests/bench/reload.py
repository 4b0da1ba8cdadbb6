"""Gaps, p99 and lost requests during consecutive reloads: plugind beside `nginx -s reload`, under the same load."""

import os
import shutil
import subprocess
import sys
import time
from statistics import median

from server import STATE, TOP, Server
from servers import PLAIN_02, section
from settings import RELOADS, REPS, UNCHANGED
from tables import of, ratios, table

GUESTS = TOP / "target/wasm32-wasip2/guest"
CLIENTS, RATE = 16, 1000


def nginx():
    found = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    return found or sys.exit("bench: nginx is missing; run tests/setup bench")


def nginx_version():
    """As in "nginx version: nginx/1.22.1"."""
    output = subprocess.run([nginx(), "-v"], check=True, stderr=subprocess.PIPE, text=True).stderr
    return output.partition(":")[2].strip()


class Plugind(Server):
    """A daemon with one plugin. Each version has its own greeting and, if it `compiles`, its own component."""

    def __init__(self, name, compiles, others=0):
        place = STATE / name.replace(" ", "-").replace(",", "")
        self.compiles, self.plugins, self.control = compiles, place / "plugins", place / "control"
        self.plugins.mkdir(parents=True)
        self.root = place / "root"
        self.root.mkdir()
        for number in range(others):
            component = PLAIN_02.read_bytes() + section(str(number).encode())
            (self.plugins / f"p{number}.wasm").write_bytes(component)
        super().__init__(name, "/hello", self.configured)

    def configured(self, address):
        self.put(0)
        return [
            TOP / "target/release/plugind", "--listen", f"http={address}", "--listen", f"control={self.control}",
            "--root", self.root, "--plugins", self.plugins]

    def put(self, version):
        component = (GUESTS / "hello.wasm").read_bytes()
        if self.compiles:
            # One more custom section, which nothing reads; the time makes it new in each run.
            component += section(f"{version} {time.time_ns()}".encode())
        (self.plugins / ".new").write_bytes(component)
        (self.plugins / ".new").rename(self.plugins / "hello.wasm")
        (self.plugins / ".new").write_text(f'[config]\ngreeting = "version {version}"\n')
        (self.plugins / ".new").rename(self.plugins / "hello.toml")

    def reload(self):
        subprocess.run(
            [TOP / "target/release/pluginctl", "reload", "--until=swapped", "--socket", self.control],
            check=True, stdout=subprocess.DEVNULL)


class Nginx(Server):
    """nginx with a configuration and a prefix of its own, which answers the same."""

    def __init__(self):
        self.prefix = STATE / "nginx"
        (self.prefix / "temporary").mkdir(parents=True)
        self.nginx = [nginx(), "-p", self.prefix, "-c", self.prefix / "conf"]
        super().__init__("nginx", "/hello", self.configured)

    def configured(self, address):
        self.address = address
        self.put(0)
        return self.nginx

    def put(self, version):
        places = "".join(
            f"  {what}_temp_path {self.prefix}/temporary/{what};\n"
            for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        # The number of requests on one connection is not limited, as with plugind.
        (self.prefix / "conf").write_text(
            # Its default user may have no access to this directory.
            ("user root;\n" if os.getuid() == 0 else "")
            + f"daemon off;\nworker_processes auto;\npid {self.prefix}/pid;\nerror_log {self.prefix}/errors;\n"
            "events {}\n"
            f"http {{\n{places}  access_log off;\n  keepalive_requests 1000000;\n"
            f"  server {{\n    listen {self.address};\n    default_type text/plain;\n"
            f'    location /hello {{ return 200 "version {version} from hello\\n"; }}\n  }}\n}}\n')

    def reload(self):
        subprocess.run([*self.nginx, "-s", "reload"], check=True, stderr=subprocess.DEVNULL)


def reloads(server, took):
    """Consecutive reloads, each finished when its version answers on a new connection."""
    for version in range(1, RELOADS + 1):
        server.put(version)
        began = time.monotonic()
        server.reload()
        while True:
            status, body = server.get() or (None, b"")
            if status == 200 and body.startswith(f"version {version} ".encode()):
                break
            if time.monotonic() > began + 60:
                sys.exit(f"bench: {server.name} answers {status} {body!r} after reload {version}")
            time.sleep(0.001)
        took.append((time.monotonic() - began) * 1000)


def measure():
    every = [Plugind("plugind", True), Plugind("plugind, compiled before", False), Nginx()]
    rest = {server.name: [] for server in every}
    during = {server.name: [] for server in every}
    try:
        for _ in range(REPS):
            for server in every:
                server.start()
                rest[server.name].append(server.steady(CLIENTS, RATE, lambda: time.sleep(2)))
                took = []
                during[server.name].append(server.steady(CLIENTS, RATE, lambda: reloads(server, took)))
                during[server.name][-1]["reload"] = median(took)
                server.stop()
    finally:
        for server in every:
            server.kill()
    print(f"## {RELOADS} consecutive reloads under {RATE} requests a second of {CLIENTS} clients (ms); "
          "`reload`: until the new version answers\n")
    columns = ["gap", "p50", "p99", "max"]
    rows = []
    for what, results in (("at rest", rest), ("reloads", during)):
        for server in every:
            mine = results[server.name]
            sums = [str(sum(result[column] for result in mine)) for column in ("answered", "failed", "reconnected")]
            rows.append([f"{server.name}: {what}", of(mine, "reload", 1) if "reload" in mine[0] else "–",
                         *(of(mine, column, 2) for column in columns), *sums])
    table(["server", "reload", "longest gap", "p50", "p99", "slowest", "answered", "failed", "closed"], rows)
    pairs = [(server.name, "nginx") for server in every[:2]]
    ratios(during, ["gap", "p99", "reload"], pairs)
    one_of_many()
    print("`failed`: requests that got no answer; `closed`: connections that the server closed between two requests.")
    print("A gap of 1 ms is the load's own pace. plugind verifies and compiles a component; nginx reads a few lines.\n",
          flush=True)


def one_of_many():
    """How long a reload takes that changes one plugin of many."""
    server = Plugind("plugind with many plugins", False, UNCHANGED)
    took = []
    try:
        server.start()  # not measured: fills the cache
        server.stop()
        server.start()
        # Files that changed within the last two seconds are read again, since their times prove nothing yet.
        time.sleep(4)
        reloads(server, took)
        server.stop()
    finally:
        server.kill()
    print(f"a reload that changes one of {UNCHANGED + 1} plugins, compiled before: {median(took):.1f} ms "
          f"({min(took):.1f} to {max(took):.1f})")
