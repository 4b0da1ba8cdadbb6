"""The processor time of a call from one plugin to another, beside a request of a client to the same plugin."""

import sys
from statistics import median

from server import Server
from servers import GUESTS, PLAIN_03, plugind
from settings import REPS, SECONDS
from tables import of, ratio, table

CALLER = GUESTS / "examples/calls.wasm"
MANIFEST = '[grants]\ncall = ["hello"]\n'
CONNECTIONS = 32
# The caller answers the status and the body of the other plugin; without a call it answers at once.
PATHS = {"hello, by a client": "/hello", "calls, which calls nobody": "/calls",
         "calls, which calls hello": "/calls/03/hello"}
COLUMNS = ("req/s", "p50", "p99")
GOAL = 1.3


def measure(_):
    plugins = {"hello": (PLAIN_03.read_bytes(), ""), "calls": (CALLER.read_bytes(), MANIFEST)}
    daemon = Server("plugind between", "/hello", plugind("between", plugins))
    results = {name: [] for name in PATHS}
    try:
        daemon.start()
        check_answers(daemon)
        for daemon.path in PATHS.values():
            daemon.load(CONNECTIONS, 1)  # not measured
        for _ in range(REPS):
            for name, daemon.path in PATHS.items():
                results[name].append(daemon.load(CONNECTIONS, SECONDS))
    finally:
        daemon.kill()
    print(f"## Calls between plugins, {CONNECTIONS} kept connections: p50, p99 and CPU per request in µs\n")
    table(["request", *COLUMNS, "cpu", "wrk's cpu", "errors"],
          [[name, *(of(mine, column) for column in COLUMNS), of(mine, "cpu", 1), of(mine, "client", 1),
            str(sum(result["errors"] for result in mine))] for name, mine in results.items()])
    each = [[result["cpu"] for result in mine] for mine in results.values()]
    clients = [result["client"] for result in results["hello, by a client"]]
    call = [(both - alone) / direct for direct, alone, both in zip(*each)]
    ends = [(both - alone) / (direct + client) for (direct, alone, both), client in zip(zip(*each), clients)]
    whole = [both / (alone + direct) for direct, alone, both in zip(*each)]
    print(f"CPU of a call (the third less the second) ÷ of a client's request: {ratio(call)}, goal {GOAL}")
    # The caller does the work of a client, too: it writes the request and reads the response.
    print(f"the same, with the CPU of the client of the client's request: {ratio(ends)}")
    print(f"CPU of a request with a call ÷ of both requests by clients: {ratio(whole)}")
    others = [result["others"] for mine in results.values() for result in mine]
    print(f"meanwhile other programs used {median(others):.0%} of the CPUs, {max(others):.0%} at most\n", flush=True)


def check_answers(daemon):
    _, hello = daemon.get(PATHS["hello, by a client"])
    for path, expected in [("/calls", b"fine"), ("/calls/03/hello", b"200 " + hello)]:
        answer = daemon.get(path)
        if answer != (200, expected):
            sys.exit(f"bench: {path} was answered {answer}")
