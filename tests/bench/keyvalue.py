"""Reads, writes and increments of a key-value store in each backend: files, NATS and Redis on this machine."""

import shutil
import socket
import subprocess
import sys
import time

from requests import interleaved, report
from server import STATE, Server
from servers import GUESTS, plugind

STORES = GUESTS / "examples/stores.wasm"
MANIFEST = '[grants]\nkeyvalue = { quota = "64M" }\n'
# 100 bytes, as a session or a counter has them.
VALUE = "x" * 100
ACTS = {"get of 100 bytes": "get/key", "set of 100 bytes": f"set/key/{VALUE}", "increment": "add/number/1"}
CONNECTIONS = (1, 32)
BACKENDS = {
    "nats": ("nats-server", lambda port, place: [
        "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", place]),
    "valkey": ("redis-server", lambda port, place: [
        "--bind", "127.0.0.1", "--port", str(port), "--dir", place, "--appendonly", "yes"]),
}


class Store:
    """The server that has the stores of one daemon; none for files."""

    def __init__(self, backend):
        self.backend, self.process, self.settings = backend, None, ""

    def start(self):
        if self.backend not in BACKENDS:
            return
        program, options = BACKENDS[self.backend]
        found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if not found:
            sys.exit(f"bench: {program} is missing; run tests/setup bench")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        place = STATE / f"{program}-files"
        place.mkdir(parents=True)
        with open(STATE / f"{program}.log", "w") as log:
            self.process = subprocess.Popen([found, *options(port, place)], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: {program} does not listen; {log.name} has its log")
            time.sleep(0.01)
        scheme = "nats" if self.backend == "nats" else "valkey"
        self.settings = f'[keyvalue]\nbackend = "{self.backend}"\nurl = "{scheme}://127.0.0.1:{port}"\n'

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


def measure(_):
    stores = [Store(backend) for backend in ("embedded", *BACKENDS)]
    daemons = []
    try:
        for store in stores:
            store.start()
            name = f"keyvalue {store.backend}"
            command = plugind(name, {"stores": (STORES.read_bytes(), MANIFEST)})
            settings = STATE / name.replace(" ", "-") / "root/etc/plugind/plugind.toml"
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(store.settings)
            daemons.append(Server(name, "/stores/nothing", command))
        for daemon in daemons:
            daemon.start()
            for act in ("set/key/" + VALUE, "set/number/0"):
                answer = daemon.get(f"/stores/{act}")
                if answer != (200, b"done"):
                    sys.exit(f"bench: {daemon.name} answered {answer}")
        pairs = [(daemon.name, daemons[0].name) for daemon in daemons[1:]]
        for act, path in ACTS.items():
            for daemon in daemons:
                daemon.path = f"/stores/{path}"
            for connections in CONNECTIONS:
                results = interleaved(daemons, connections)
                report(f"key-value {act}, {connections} client{'s' if connections > 1 else ''}", daemons,
                       results, pairs)
    finally:
        for daemon in daemons:
            daemon.kill()
        for store in stores:
            store.stop()
    print("A write to a file waits for the disk. NATS and Redis, as they are configured here and by default, acknowledge")
    print("one before it is on the disk.\n", flush=True)
