"""Greets everyone who asks over HTTP."""

import wit_world.exports as exports
from wit_world.imports import journal

import settings
import web
from greeting import greet
from lifecycle import Lifecycle


class Handler(exports.Handler):
    async def handle(self, request):
        return await web.serve(request, answer)


async def answer(request: web.Request) -> web.Response:
    journal.send(journal.Priority.DEBUG, "request", [("path", request.path)])
    return web.Response(greet(settings.greeting, request.path))
