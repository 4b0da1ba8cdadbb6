"""Requests per second, p50, p99 and CPU time per request, by wrk."""

from statistics import median

from server import CPUS
from servers import pairs
from settings import REPS, SECONDS
from tables import of, ratios, table

CONNECTIONS = (1, 32)
COLUMNS = ["req/s", "p50", "p99", "cpu"]


def measure(every):
    for server in every:
        server.start()
    for connections in CONNECTIONS:
        results = interleaved(every, connections)
        report(f"{connections} kept connection{'s' if connections > 1 else ''}", every, results)
    for server in every:
        server.stop()
    print("wrk shares the CPUs with what it measures and ends near its own limit at hyper: there CPU per request")
    print("is the honest ratio. On a quiet machine one connection measures how fast an idle CPU wakes up.\n",
          flush=True)


def interleaved(every, connections, cpu=None):
    """`results[server][repetition]` of servers that run: one after the other within each repetition."""
    for server in every:
        server.load(connections, 1, cpu)  # not measured: fills pools and branch predictors
    results = {server.name: [] for server in every}
    for _ in range(REPS):
        for server in every:
            results[server.name].append(server.load(connections, SECONDS, cpu))
    return results


def report(title, every, results, compared=None):
    print(f"## {title}: p50, p99 and CPU per request in µs\n")
    table(["server", *COLUMNS, "errors"],
          [[server.name, *(of(results[server.name], column) for column in ("req/s", "p50", "p99")),
            of(results[server.name], "cpu", 1), str(sum(result["errors"] for result in results[server.name]))]
           for server in every])
    ratios(results, COLUMNS, compared or pairs(every))
    others = [result["others"] for each in results.values() for result in each]
    state = "quiet" if max(others) < 0.05 else "BUSY: trust the ratios of CPU more than those of time"
    print(f"meanwhile other programs used {median(others):.0%} of {CPUS} CPUs, {max(others):.0%} at most: {state}\n",
          flush=True)
