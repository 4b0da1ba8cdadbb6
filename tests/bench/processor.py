"""The same as `requests` with the server on one processor, by taskset, and wrk on another if there is one."""

import os

from requests import interleaved, report

CONNECTIONS = 32


def measure(every):
    processors = sorted(os.sched_getaffinity(0))
    own, others = processors[0], processors[-1]
    for server in every:
        server.start(own)
    results = interleaved(every, CONNECTIONS, others)
    for server in every:
        server.stop()
    report(f"{CONNECTIONS} kept connections, server on one processor", every, results)
