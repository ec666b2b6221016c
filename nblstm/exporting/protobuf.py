"""Protocol buffers, as far as an ONNX file needs them: messages as pairs of (field number, value), written by hand.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

Value = Union[int, str, bytes, "list[tuple[int, Value]]"]


def varint(number: int) -> bytes:
    """Encode a number, seven bits a byte, the lowest first; negative numbers as 64 bits."""
    number &= (1 << 64) - 1
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def message(fields: Iterable[tuple[int, Value]]) -> bytes:
    """Encode a message. A number is a varint, all else has its length before it."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    data = data if isinstance(data, bytes) else message(data)
    return varint(number << 3 | 2) + varint(len(data)) + data
