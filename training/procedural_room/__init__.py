"""Procedural rooms: walls, furniture, patterns; rendered views and their COLMAP model; deterministic by seed."""

from .capture import room_capture, write_room
from .plain import make_plain_room
from .room import Room, make_room

__all__ = ["Room", "make_plain_room", "make_room", "room_capture", "write_room"]
