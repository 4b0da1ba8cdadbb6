"""Greets everyone who asks."""

import wit_world.exports as exports
from componentize_py_types import Err
from wit_world.exports.lifecycle import Condition_Healthy, StartError_Configuration
from wit_world.imports import journal, store

import web
from greeting import greet

# From [config] of the manifest. It does not change while the instance exists.
greeting = "Hello"


class Lifecycle(exports.Lifecycle):
    async def start(self) -> None:
        global greeting
        configured = store.get("greeting")
        greeting = greeting if configured is None else configured
        if not greeting.strip():
            raise Err(StartError_Configuration("[config] greeting is empty"))
        journal.send(journal.Priority.INFO, "greeting loaded", [("greeting", greeting)])

    async def health(self) -> Condition_Healthy:
        return Condition_Healthy()

    async def stop(self, reason) -> None:
        journal.send(journal.Priority.INFO, "stopping", [("reason", reason.name.lower())])


class Handler(exports.Handler):
    async def handle(self, request):
        asked = await web.read(request)
        journal.send(journal.Priority.DEBUG, "request", [("path", asked.path)])
        return web.respond(web.Response(greet(greeting, asked.path)))
