"""Plugins that serve sockets: an echo of 64 bytes beside native tokio, and connections that are idle."""

import json
import resource
import socket
import subprocess
import sys
import time

from requests import report
from server import PEERS, STATE, Server, children_cpu, machine_cpu, CPUS
from servers import PLAIN_03, plugind
from settings import REPS, SECONDS
from tables import ratio, table

KINDS = ("tcp", "unix", "udp")
CLIENTS = (1, 32)
# The daemon takes connections for at most half of its files, without some that it keeps for itself.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IDLE = min(10_000, FILES // 2 - 500)
ECHOES = PEERS / "wasm32-wasip2/guest/echoes.wasm"
MANIFEST = f'[[serve]]\nsocket = "echo"\n[[serve]]\nsocket = "datagrams"\n[limits]\nconnections-max = {2 * IDLE}\n'
# All idle clients of the echo have one address.
SETTINGS = f"[sockets.echo]\nconnections-max = {2 * IDLE}\nconnections-max-per-peer = {2 * IDLE}\n"
# A good client of HTTP beside idle ones: connections, and requests a second.
GOOD = (4, 400)


class EchoServer(Server):
    """A server that sends back what it receives, by TCP, UDP and at a path."""

    def __init__(self, name, command):
        self.at = STATE / f"{name}.socket"
        super().__init__(name, None, lambda address: command(address, self.at))

    def get(self, path=None):
        """As if it were HTTP: 200 when it echoes."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as stream:
                stream.sendall(b"x")
                return (200, b"x") if stream.recv(1) == b"x" else None
        except OSError:
            return None

    def echo(self, kind, clients, seconds):
        """One run of the clients against it."""
        target = str(self.at) if kind == "unix" else f"127.0.0.1:{self.port}"
        server, load, everything, began = self.cpu(), children_cpu(), machine_cpu(), time.monotonic()
        output = subprocess.run([PEERS / "release/echo-load", kind, target, str(clients), str(seconds)],
                                check=True, capture_output=True, text=True).stdout
        result = json.loads(output)
        server, load = self.cpu() - server, children_cpu() - load
        others = machine_cpu() - everything - server - load
        return {
            "req/s": result["messages"] / result["seconds"], "p50": result["p50"], "p99": result["p99"],
            "cpu": server * 1e6 / max(result["messages"], 1), "errors": result["lost"],
            "others": max(others, 0) / (time.monotonic() - began) / CPUS,
        }


def echo_servers():
    def ours(address, at):
        listen = [f"--listen=echo={address}", f"--listen=echo=unix:{at}", f"--listen=datagrams=udp:{address}"]
        # The first two arguments are those of HTTP.
        program, _, _, *rest = plugind("echo", {"echo": (ECHOES.read_bytes(), MANIFEST)})(address)
        settings = STATE / "echo/root/etc/plugind/plugind.toml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(SETTINGS)
        return [program, *listen, *rest]

    return [EchoServer("tokio", lambda address, at: [PEERS / "release/echo-tokio", address, at]),
            EchoServer("plugind", ours)]


def measure(_):
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    servers = echo_servers()
    try:
        for server in servers:
            server.start()
        for kind in KINDS:
            for clients in CLIENTS:
                echo(servers, kind, clients)
        for server in servers:
            idle_memory(server)
        print(flush=True)
        beside_idle_clients()
    finally:
        for server in servers:
            server.kill()


def echo(servers, kind, clients):
    results = {server.name: [] for server in servers}
    for server in servers:
        server.echo(kind, clients, 0.5)  # not measured
    for _ in range(REPS):
        for server in servers:
            results[server.name].append(server.echo(kind, clients, SECONDS))
    title = f"Echo of 64 bytes by {kind}, {clients} client{'s' if clients > 1 else ''}"
    report(title, servers, results, [("plugind", "tokio")])


def idle_memory(server):
    """The memory of connections that have sent one byte and received it."""
    before = server.memory()[1]
    streams = opened(server.port, IDLE, b"x")
    after = server.memory()[1]
    for stream in streams:
        stream.close()
    each = (after - before) * 1024 / len(streams)
    print(f"{len(streams)} idle connections: {server.name} uses {each:.1f} KiB for each, with the guest's own memory")


def opened(port, count, greeting=None, source="127.0.0.1"):
    streams = []
    for _ in range(count):
        stream = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        if greeting:
            stream.sendall(greeting)
            if not stream.recv(1):
                sys.exit(f"bench: connection {len(streams)} was closed")
        streams.append(stream)
    return streams


def beside_idle_clients():
    """p99 of a good client while another one opens idle connections, as many as it likes."""
    server = Server("plugind idle", "/hello", plugind("idle", {"hello": (PLAIN_03.read_bytes(), "")}))
    server.start()
    try:
        rows, quotients = [], []
        for _ in range(REPS):
            alone = server.steady(*GOOD, lambda: time.sleep(SECONDS))
            streams = opened(server.port, IDLE, source="127.0.0.2")
            beside = server.steady(*GOOD, lambda: time.sleep(SECONDS))
            for stream in streams:
                stream.close()
            quotients.append(beside["p99"] / alone["p99"])
            rows.append([f"{alone['p99']:.2f}", f"{beside['p99']:.2f}", f"{alone['failed'] + beside['failed']:.0f}"])
        print(f"## A client of HTTP beside {IDLE} idle connections of another one: p99 in ms\n")
        table(["alone", "beside them", "failed"], rows)
        print(f"beside them ÷ alone: {ratio(quotients)}\n", flush=True)
    finally:
        server.kill()
