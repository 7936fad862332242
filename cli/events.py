"""The events of a running ComfyUI, read from its WebSocket with the standard library alone."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import urllib.parse


class Events:
    """The server's WebSocket, read only: just enough of RFC 6455 for unfragmented text frames from ComfyUI."""

    def __init__(self, url: str, client_id: str):
        place = urllib.parse.urlparse(url)
        self.socket = socket.create_connection((place.hostname, place.port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws?clientId={client_id} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError("ComfyUI did not open its event stream: " + head.decode("latin-1").splitlines()[0])

    def more(self) -> None:
        block = self.socket.recv(1 << 16)
        if not block:
            raise ConnectionError("ComfyUI closed its event stream.")
        self.buffer += block

    def next(self, timeout: float) -> dict | None:
        """The next JSON event, or None if none came within ``timeout`` seconds. Previews (binary) are passed over."""
        self.socket.settimeout(timeout)
        try:
            while True:
                while (frame := self.frame()) is None:
                    self.more()
                if frame[0] == 1:
                    return json.loads(frame[1])
        except TimeoutError:
            return None

    def frame(self) -> tuple[int, bytes] | None:
        """Take one whole frame (opcode, payload) out of the buffer, if there is one."""
        if len(self.buffer) < 2:
            return None
        size, start = self.buffer[1] & 127, 2
        for code, form, width in ((126, ">H", 2), (127, ">Q", 8)):
            if size == code:
                if len(self.buffer) < 2 + width:
                    return None
                size, start = struct.unpack(form, self.buffer[2 : 2 + width])[0], 2 + width
                break
        if len(self.buffer) < start + size:
            return None
        opcode, payload = self.buffer[0] & 15, self.buffer[start : start + size]
        self.buffer = self.buffer[start + size :]
        return opcode, payload

    def close(self) -> None:
        self.socket.close()
