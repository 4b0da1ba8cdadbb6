"""The servers that are compared, and whose figures are divided by whose."""

import subprocess
import sys

from server import PEERS, STATE, TOP, Server

GUESTS = TOP / "target/wasm32-wasip2/guest"
WASMTIME = TOP / "target/bench/bin/wasmtime"
PLAIN_03 = PEERS / "wasm32-wasip2/guest/hello_03.wasm"
PLAIN_02 = GUESTS / "greeter_02.wasm"
COMPUTES = PEERS / "wasm32-wasip2/guest/computes.wasm"


def plugind(name, plugins):
    """The command of a daemon with `plugins`: for each name the bytes of the component and the text of the manifest."""
    place = STATE / name.replace(" ", "-").replace(",", "")
    directory, root = place / "plugins", place / "root"
    directory.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    for plugin, (component, manifest) in plugins.items():
        (directory / f"{plugin}.wasm").write_bytes(component)
        (directory / f"{plugin}.toml").write_text(manifest)
    return lambda address: [
        TOP / "target/release/plugind", "--listen", f"http={address}", "--root", root, "--plugins", directory]


def section(text):
    """A custom section, which nothing reads: its number 0, its size, and its name "v" with the size of that."""
    return bytes([0, 2 + len(text), 1]) + b"v" + text


def wasmtime(component, *options):
    # -Scli: Rust's standard library imports wasi:cli, which `serve` does not offer by itself.
    return lambda address: [WASMTIME, "serve", "-Scli=y", *options, f"--addr={address}", component]


def wasmtime_version():
    return subprocess.run([WASMTIME, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def compared():
    """A daemon of its own for each mode, so that its memory and CPU are that plugin's."""

    def ours(name, component, manifest):
        return Server(name, "/hello", plugind(name, {"hello": (component.read_bytes(), manifest)}))

    hyper = Server("hyper", "/hello", lambda address: [PEERS / "release/hyper-hello", address])
    shared_03 = ours("plugind 0.3 shared", PLAIN_03, "")
    fresh_02 = ours("plugind 0.2 fresh", PLAIN_02, "")
    shared_02 = ours("plugind 0.2 shared", PLAIN_02, '[instances]\nmode = "shared"\n')
    shared_03.same_answer_as, shared_02.same_answer_as = hyper, fresh_02
    every = [hyper, shared_03, fresh_02, shared_02]
    if WASMTIME.exists():
        # By default it reuses instances of 0.3 for 128 requests, and those of 0.2 never.
        reused = "--max-instance-reuse-count=1000000000"
        every += [
            Server("wasmtime 0.3", "/hello", wasmtime(PLAIN_03), hyper),
            Server("wasmtime 0.2 fresh", "/hello", wasmtime(PLAIN_02), fresh_02),
            Server("wasmtime 0.2 reused", "/hello", wasmtime(PLAIN_02, reused), fresh_02),
        ]
    return every


def pairs(every):
    """Those pairs of names of which both are there."""
    names = {server.name for server in every}
    return [pair for pair in [
        ("plugind 0.3 shared", "hyper"), ("plugind 0.2 fresh", "hyper"), ("plugind 0.2 shared", "hyper"),
        ("wasmtime 0.3", "hyper"), ("wasmtime 0.2 fresh", "hyper"), ("wasmtime 0.2 reused", "hyper"),
        ("plugind 0.3 shared", "wasmtime 0.3"), ("plugind 0.2 fresh", "wasmtime 0.2 fresh"),
        ("plugind 0.2 shared", "wasmtime 0.2 reused"),
    ] if names.issuperset(pair)]


def check_answers(every):
    """Every server must give the answer it should, or the comparison says nothing; fills all caches on the way."""
    answers = {}
    for server in every:
        server.start()
        answers[server] = server.get()
        server.stop()
        status, body = answers[server] or (None, b"")
        if status != 200 or not body:
            sys.exit(f"bench: {server.name} answered {status} {body!r}")
        if server.same_answer_as and body != answers[server.same_answer_as][1]:
            sys.exit(f"bench: {server.name} answered {body!r}, unlike {server.same_answer_as.name}")
