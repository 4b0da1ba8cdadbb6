"""p99 of one plugin beside another that computes: alone, and beside one computing request or two for each CPU."""

import subprocess
import sys
import time

from server import CPUS, Server
from servers import COMPUTES, PLAIN_03, WASMTIME, plugind, wasmtime
from settings import REPS, SECONDS
from tables import of, ratios, table

CLIENTS, RATE = 16, 1000
CASES = {"alone": 0, "beside 1": 1, f"beside {2 * CPUS}": 2 * CPUS}
COLUMNS = ["p50", "p99", "max"]


def measure(_):
    both = {"hello": (PLAIN_03.read_bytes(), ""), "computes": (COMPUTES.read_bytes(), "")}
    ours = Server("plugind", "/hello", plugind("neighbours", both))
    # For each server, the one whose plugin computes: the same, or a process of its own.
    computing = {ours: ours}
    if WASMTIME.exists():
        computing[Server("wasmtime", "/hello", wasmtime(PLAIN_03))] = \
            Server("wasmtime computes", "/computes", wasmtime(COMPUTES))
    servers = set(computing) | set(computing.values())
    results = {f"{server.name}: {case}": [] for server in computing for case in CASES}
    try:
        for server in servers:
            server.start()
        for server in computing.values():
            status, body = server.get("/computes") or (None, b"")
            if status != 200:
                sys.exit(f"bench: {server.name} answered {status} {body!r}")
        for _ in range(REPS):
            for case, requests in CASES.items():
                for server, other in computing.items():
                    results[f"{server.name}: {case}"].append(beside(server, other, requests))
    finally:
        for server in servers:
            server.kill()
    print(f"## {RATE} requests a second of {CLIENTS} clients, beside requests to another plugin that compute without a "
          "pause (ms)\n")
    table(["server", *COLUMNS, "failed"],
          [[name, *(of(mine, column, 2) for column in COLUMNS), str(sum(result["failed"] for result in mine))]
           for name, mine in results.items()])
    cases = list(CASES)
    ratios(results, COLUMNS,
           [(f"{server.name}: {case}", f"{server.name}: alone") for server in computing for case in cases[1:]]
           + [(f"plugind: {case}", f"wasmtime: {case}") for case in cases if len(computing) > 1])


def beside(server, other, requests):
    """`requests` at a time are computed meanwhile."""
    def work():
        if requests:
            subprocess.run(other.wrk(requests, SECONDS, "/computes"), check=True, stdout=subprocess.DEVNULL)
        else:
            time.sleep(SECONDS)
    return server.steady(CLIENTS, RATE, work)
