"""Greets everyone who asks over HTTP."""

import wit_world.exports as exports
from wit_world.imports import journal

import settings
import web
from greeting import greet
from lifecycle import Lifecycle


class Handler(exports.Handler):
    async def handle(self, request):
        asked = await web.read(request)
        journal.send(journal.Priority.DEBUG, "request", [("path", asked.path)])
        return web.respond(web.Response(greet(settings.greeting, asked.path)))
