"""Greets everyone whose name comes as a datagram."""

from typing import Optional

import wit_world.exports as exports
from wit_world.imports.types import Peer

import settings
from greeting import greet
from lifecycle import Lifecycle


class DatagramHandler(exports.DatagramHandler):
    # The sender of a UDP datagram can be forged, so an answer must not be much longer than its question.
    async def handle(self, socket: str, peer: Peer, datagram: bytes) -> Optional[bytes]:
        return greet(settings.greeting, datagram.decode(errors="replace")).encode()
