"""Greets everyone whose name comes as a line of a connection."""

import wit_world.exports as exports
from componentize_py_types import Err
from wit_world.imports.connections import Connection

import settings
from greeting import greet
from lifecycle import Lifecycle

# The longest line, after which a connection is reset.
LINE_MAX = 1024


class ConnectionHandler(exports.ConnectionHandler):
    async def handle(self, connection: Connection) -> None:
        received = b""
        with connection:
            while True:
                try:
                    received += (data := await connection.read(65536))
                    *lines, received = received.split(b"\n")
                    for line in lines:
                        answer = greet(settings.greeting, line.decode(errors="replace"))
                        await connection.write(answer.encode())
                except Err:
                    return  # the client has left, which is no failure of the plugin
                if not data:
                    return
                if len(received) > LINE_MAX:
                    raise Err("a line is too long")
