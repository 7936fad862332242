"""SeeThrough3D's saved scenes (`*.pkl`), read without executing anything, and written.

A pickle is a program. This is an interpreter of the few opcodes that build plain values, written out below; of the
names such a program may call, two are known, numpy's `scalar` and `dtype`, and what stands for them only unpacks eight
bytes into a float. Everything else is refused before anything is built. Python's own unpickler is never used.
Source: spec section 2.2.
"""

from __future__ import annotations

import math
import pickletools
import struct
from typing import Any

from .geometry import canonical
from .model import Document
from .problems import SceneError, refuse
from .text import parse_document

MAX_BYTES = 1 << 20
MAX_STEPS = 50_000
MAX_NEST = 16
REFERENCE_X = 6.0
REFUSAL = "This .pkl contains program code and was not opened."
_SCALAR, _DTYPE = object(), object()
_NAMES = {
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy", "dtype"): _DTYPE,
}
_PLAIN = set(
    "BININT BININT1 BININT2 LONG1 BINFLOAT FLOAT INT SHORT_BINUNICODE BINUNICODE UNICODE SHORT_BINBYTES BINBYTES "
    "BINBYTES8 BINUNICODE8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Mark:
    """The mark on the stack."""


class _Dtype:
    """Stands for a numpy dtype; only little-endian float64 is accepted."""

    def __init__(self, code: Any) -> None:
        if code not in ("f8", "<f8"):
            raise _broken(f"it holds numbers of kind {str(code)[:20]!r}")

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "="):
            raise _broken("its numbers are not little-endian")


def read_saved_scene(data: bytes) -> Document:
    """A document from the bytes of a saved scene.

    Raises SceneError (E150) with one sentence for program code, damage, or anything that is no saved scene; executes
    nothing.
    """
    value = load_plain(data)
    if not isinstance(value, dict) or not isinstance(value.get("subjects_data"), list):
        raise refuse("E150", "", "This .pkl is no scene saved by SeeThrough3D: it holds no `subjects_data`.")
    return parse_document(value)


def load_plain(data: bytes) -> Any:
    """The plain value (dicts, lists, tuples, text, bytes, numbers) in a pickle; see `read_saved_scene`."""
    if len(data) > MAX_BYTES:
        raise refuse(
            "E150", "", f"This .pkl has {len(data) // 1024} kB; a saved scene has at most {MAX_BYTES // 1024}."
        )
    try:
        return _checked(_run(data))
    except SceneError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError, RecursionError, MemoryError):
        raise refuse("E150", "", "This .pkl is damaged or no saved scene; save it again in SeeThrough3D.") from None


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def to_mark() -> list[Any]:
        at = max(i for i, x in enumerate(stack) if isinstance(x, _Mark))
        items = stack[at + 1 :]
        del stack[at:]
        return items

    for steps, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if steps > MAX_STEPS:
            raise _broken("it is far longer than a scene")
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            (value,) = stack
            return value
        if name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_Mark())
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("DICT", "LIST", "TUPLE"):
            items = to_mark()
            pairs = zip(items[::2], items[1::2], strict=True) if name == "DICT" else ()
            stack.append(dict(_keyed(pairs)) if name == "DICT" else tuple(items) if name == "TUPLE" else items)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [_tuple(stack, count)]
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else to_mark()
            _of(stack[-1], dict).update(_keyed(zip(items[::2], items[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else to_mark()
            _of(stack[-1], list).extend(items)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in ("STACK_GLOBAL", "GLOBAL"):
            if name == "GLOBAL":
                module, _, attribute = argument.partition(" ")
            else:
                attribute, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str) or (module, attribute) not in _NAMES:
                raise refuse("E150", "", REFUSAL)
            stack.append(_NAMES[module, attribute])
        elif name == "REDUCE":
            arguments = _of(stack.pop(), tuple)
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _of(stack[-1], _Dtype).set_state(state)
        else:  # INST, OBJ, NEWOBJ, EXT, PERSID, BUFFER and all that can do more than hold a value
            raise refuse("E150", "", REFUSAL)
    raise _broken("it ends too early")


def _call(what: Any, arguments: tuple) -> Any:
    if what is _DTYPE:
        return _Dtype(arguments[0])
    if what is _SCALAR:
        kind, data = arguments
        _of(kind, _Dtype)
        return struct.unpack("<d", _of(data, bytes))[0]
    raise refuse("E150", "", REFUSAL)


def _checked(value: Any) -> Any:
    """The value if it is made of plain parts alone, not too deep, and without loops."""
    stack, seen = [(value, 0)], 0
    while stack:
        one, depth = stack.pop()
        seen += 1
        if depth > MAX_NEST or seen > MAX_STEPS:
            raise _broken("it is nested too deeply")
        if isinstance(one, dict):
            stack += [(x, depth + 1) for x in one.values()]
        elif isinstance(one, (list, tuple)):
            stack += [(x, depth + 1) for x in one]
        elif not (one is None or isinstance(one, (bool, int, float, str, bytes))):
            raise _broken("it holds something that is no plain value")
        elif isinstance(one, int) and abs(one) > 1 << 64:
            raise _broken("it holds a number that is too large")
    return value


def _keyed(pairs):
    for key, value in pairs:
        yield _of(key, str), value


def _tuple(stack: list, count: int) -> tuple:
    if len(stack) < count or any(isinstance(x, _Mark) for x in stack[-count:]):
        raise _broken("it is not well formed")
    return tuple(stack[-count:])


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise _broken("it is not well formed")
    return value


def _broken(why: str) -> SceneError:
    return refuse("E150", "", f"This .pkl is no scene saved by SeeThrough3D: {why}.")


# ---- writing --------------------------------------------------------------------------------------------------------


def write_saved_scene(document: Document) -> bytes:
    """A pickle (protocol 4) that SeeThrough3D loads: the canonical camera, only what is in the picture, plain floats.

    Read back, boxes and camera are the same to 1e-6. Raises SceneError (E151) for a camera the format cannot hold.
    """
    home = canonical(document)
    if home.reason is not None:
        text = f"SeeThrough3D's format only knows cameras that look down at the floor; this one {home.reason}."
        raise refuse("E151", "/cameras", text)
    scene = home.document
    camera, output = scene.camera, scene.output
    subjects = [
        {
            "name": one.prompt,
            "type": one.preset or "Custom",
            "dims": tuple(float(v) for v in one.size),
            "x": [one.position[0] - REFERENCE_X],
            "y": [float(one.position[1])],
            "z": [float(one.position[2])],
            "azimuth": [math.radians(one.yaw_deg)],
            "bbox": [(0, 0, 0, 0)],
        }
        for one in scene.picture_objects
    ]
    lens = camera.lens_mm * 36.0 / camera.sensor_mm
    value = {
        "subjects_data": subjects,
        "camera_data": {
            "camera_elevation": math.radians(camera.orbit.elevation_deg),
            "lens": float(lens),
            "global_scale": 1.0,
        },
        "surrounding_prompt": scene.prompt.background,
        "inference_params": {
            "height": output.size[1],
            "width": output.size[0],
            "seed": output.seed,
            "guidance_scale": float(output.guidance),
            "num_inference_steps": output.steps,
            "checkpoint": output.lora,
        },
    }
    return b"\x80\x04" + _encode(value) + b"."


def _encode(value: Any) -> bytes:
    """The opcodes that build a plain value."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        size = (value.bit_length() + 8) // 8
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + b"".join(_encode(one) for one in value) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(_encode(one) for one in value) + b"e"
    return b"}(" + b"".join(_encode(k) + _encode(v) for k, v in value.items()) + b"u"
