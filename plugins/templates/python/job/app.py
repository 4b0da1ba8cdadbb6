"""Greets the world now and then, in the background. A program that returns is finished, and is not run again."""

import wit_world.exports as exports
from componentize_py_types import Err
from wit_world.imports import monotonic_clock

import settings
from greeting import greet

INTERVAL = 10_000_000_000  # nanoseconds


class Run(exports.Run):
    async def run(self) -> None:
        if not settings.load():
            print("[config] greeting is empty")
            raise Err(None)
        while True:
            # Each line that is printed is an entry of the log.
            print(greet(settings.greeting, "world"), end="", flush=True)
            await monotonic_clock.wait_for(INTERVAL)
