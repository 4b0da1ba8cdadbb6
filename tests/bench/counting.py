"""The price of metrics: counting a request, as a share of its CPU time, and a scrape with 100 plugins."""

import http.client
import json
import socket
import subprocess

from server import PEERS, Server
from servers import PLAIN_02, plugind, section
from settings import REPS, SECONDS
from tables import of, table

CONNECTIONS = 32
# How often a reused instance is given a thread for a request on one connection (0.3: 2.7 times, 0.2: 2.2), as
# a breakpoint in the host shows. An instance of one request has one turn, and requests that come together share turns.
TURNS = 3
PLUGINS, SCRAPES = 100, 200


def measure(every):
    ours = [server for server in every if server.name.startswith("plugind")]
    results = {server.name: [] for server in ours}
    counting = []
    for server in ours:
        server.start()
        server.load(CONNECTIONS, 1)
    for _ in range(REPS):
        counting.append(json.loads(
            subprocess.run([PEERS / "release/counting", str(TURNS)], check=True, capture_output=True).stdout))
        for server in ours:
            results[server.name].append(server.load(CONNECTIONS, SECONDS))
    for server in ours:
        server.stop()
    print(f"## Counting one request, beside its CPU time with {CONNECTIONS} connections\n")
    rows = []
    for server in ours:
        # ns of µs, in percent.
        shares = [{kind: one[kind] / 10 / result["cpu"] for kind in one}
                  for one, result in zip(counting, results[server.name])]
        cells = [[of(counting, kind), of(shares, kind, 2) + " %"] for kind in ("warm", "cold")]
        rows.append([server.name, of(results[server.name], "cpu", 1), *cells[0], *cells[1]])
    table(["server", "CPU µs", "warm ns", "share", "cold ns", "share"], rows)
    print(f"The code of the host counts in a loop, with {TURNS} turns of the instance for each request. Cold: the counters")
    print("of each request are outside of the processor's nearest caches. The goal is a share of 2 %.\n", flush=True)
    scrapes()


def scrapes():
    server, port = with_metrics()
    results = []
    try:
        server.start()
        for _ in range(REPS):
            results.append(scraped(server, port))
    finally:
        server.kill()
    print(f"## One scrape of the metrics of {PLUGINS} plugins: CPU time of the daemon\n")
    table(["", "CPU ms", "KiB"],
          [["scrape", of(results, "cpu", 2), of(results, "size")]])
    print("The goal is 2 ms.\n", flush=True)


def with_metrics():
    """A daemon with this many plugins, and the port of its metrics."""
    component = PLAIN_02.read_bytes()
    plugins = {f"p{number}": (component + section(str(number).encode()), "") for number in range(PLUGINS)}
    command = plugind("metrics", plugins)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Server("metrics", "/p0", lambda address: [*command(address), "--listen", f"metrics=127.0.0.1:{port}"]), port


def scraped(server, port):
    """The means of one scrape of many."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    before, size = server.cpu(), 0
    for _ in range(SCRAPES):
        connection.request("GET", "/metrics")
        size += len(connection.getresponse().read())
    connection.close()
    return {"cpu": (server.cpu() - before) * 1000 / SCRAPES, "size": size / 1024 / SCRAPES}
