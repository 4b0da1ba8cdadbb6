"""Greets everyone whose name comes as a message of a WebSocket."""

import wit_world.exports as exports
from componentize_py_types import Err
from wit_world.imports import journal
from wit_world.imports.websockets import Message_Close, Message_Text, UpgradeRequest, Websocket

import settings
from greeting import greet
from lifecycle import Lifecycle


class WebsocketHandler(exports.WebsocketHandler):
    async def handle(self, request: UpgradeRequest, socket: Websocket) -> None:
        journal.send(journal.Priority.DEBUG, "request", [("path", request.path)])
        with socket:
            try:
                socket.accept(None)
                while not isinstance(message := await socket.receive(), Message_Close):
                    if isinstance(message, Message_Text):
                        await socket.send(Message_Text(greet(settings.greeting, message.value)))
            except Err:
                pass  # the client has left, which is no failure of the plugin
