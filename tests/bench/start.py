"""Time from exec to the first 200 and memory, each server alone on the machine; compiled code comes from caches."""

from server import Server
from servers import PLAIN_02, plugind, section
from settings import PLUGINS, REPS
from tables import of, ratios, table

COLUMNS = ["first 200", "RSS", "PSS", "PSS loaded"]


def measure(every):
    single = [server for server in every if not server.name.startswith("plugind")]
    many = {count: holding(count) for count in PLUGINS}
    servers = [*single, *many.values()]
    results = {server.name: [] for server in servers}
    try:
        for server in many.values():
            server.start()  # not measured: fills the cache
            server.stop()
        for _ in range(REPS):
            for server in servers:
                results[server.name].append(alone(server))
    finally:
        for server in servers:
            server.kill()
    print("## From exec to the first 200 (ms), memory after it and after a run of 32 connections (MiB); alone\n")
    table(["server", *COLUMNS],
          [[server.name, *(of(results[server.name], column, 1) for column in COLUMNS)] for server in servers])
    ours = many[1].name
    ratios(results, COLUMNS, [(ours, server.name) for server in single])
    for count in PLUGINS[1:]:
        first, last = results[ours], results[many[count].name]
        each = [{column: (b[column] - a[column]) / (count - 1) for column in COLUMNS} for a, b in zip(first, last)]
        print(f"each further plugin of {count}: {of(each, 'first 200', 2)} ms, {of(each, 'PSS', 2)} MiB of PSS")
    print("plugind accepts the first connection when all of its plugins are ready.\n", flush=True)


def holding(count):
    """A daemon with plugins that differ in a custom section, which nothing reads, so that each is mapped by itself."""
    component = PLAIN_02.read_bytes()
    plugins = {f"p{number}": (component + section(str(number).encode()), "") for number in range(count)}
    name = f"plugind, {count} plugin{'s' if count > 1 else ''}"
    return Server(name, "/p0", plugind(name, plugins))


def alone(server):
    first = server.start() * 1000
    rss, pss = server.memory()
    server.load(32, 1)
    _, loaded = server.memory()
    server.stop()
    return {"first 200": first, "RSS": rss, "PSS": pss, "PSS loaded": loaded}
