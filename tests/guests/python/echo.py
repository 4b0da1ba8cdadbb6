"""Sends back what it gets, in Python."""
from typing import Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.connections import Connection
from wit_world.imports.types import Peer
from wit_world.imports.websockets import Message_Close, UpgradeRequest, Websocket


class ConnectionHandler(exports.ConnectionHandler):
    async def handle(self, connection: Connection) -> None:
        with connection:
            while True:
                try:
                    data = await connection.read(65536)
                except Err:
                    return
                if not data:
                    return
                if data == b"fail\n":
                    raise Err("asked to fail")
                await connection.write(data)


class DatagramHandler(exports.DatagramHandler):
    async def handle(self, socket: str, peer: Peer, datagram: bytes) -> Optional[bytes]:
        return datagram


class WebsocketHandler(exports.WebsocketHandler):
    async def handle(self, request: UpgradeRequest, socket: Websocket) -> None:
        with socket:
            socket.accept(None)
            while True:
                try:
                    message = await socket.receive()
                except Err:
                    return
                if isinstance(message, Message_Close):
                    return
                await socket.send(message)
