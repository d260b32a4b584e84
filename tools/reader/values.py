"""Values: as CBOR, and as bytes in order (format-spec.md, section 22).

In Python, values are None, bool, int, float, str, bytes, list, dict (text keys), uuid.UUID, Time.
"""

import math
import struct
import uuid
from dataclasses import dataclass

from damage import Damage

DEEPEST = 64


@dataclass(frozen=True)
class Time:
    """A moment: seconds since 1970 rounded down, and nanoseconds within the second."""

    seconds: int
    nanoseconds: int


class Missing:
    """What an index has for a field that is not there."""

    def __repr__(self):
        return "missing"


MISSING = Missing()


def as_json(value):
    """A form that JSON can hold; what JSON has no type for is an object with one name."""
    if value is MISSING:
        return {"missing": True}
    if isinstance(value, float):
        return {"float": struct.pack(">d", value).hex()}
    if isinstance(value, uuid.UUID):
        return {"uuid": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Time):
        return {"time": [value.seconds, value.nanoseconds]}
    if isinstance(value, list):
        return [as_json(v) for v in value]
    if isinstance(value, dict):
        return {"object": fields_as_json(value)}
    return value


def fields_as_json(fields):
    """The fields of a document or object."""
    return {name: as_json(value) for name, value in fields.items()}


class _Bytes:
    def __init__(self, raw):
        self.raw = raw
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.raw):
            raise Damage("a value ends too early")
        part = self.raw[self.at : self.at + count]
        self.at += count
        return part

    def big(self, count):
        return int.from_bytes(self.take(count), "big")

    @property
    def done(self):
        return self.at == len(self.raw)


# --- CBOR ---------------------------------------------------------------------------------------


def decode_document(raw, names):
    """The fields of a document, by name, in the order of the bytes."""
    p = _Bytes(raw)
    major, count = _head(p)
    if major != 5:
        raise Damage(f"a document is CBOR of major type {major}, expected a map")
    fields = {}
    for _ in range(count):
        major, n = _head(p)
        if major == 0:
            if n >= len(names):
                raise Damage(f"name {n} of {len(names)}")
            name = names[n]
        elif major == 3:
            name = _text(p.take(n))
        else:
            raise Damage(f"a name of CBOR major type {major}")
        if name in fields:
            raise Damage(f"field {name!r} twice")
        fields[name] = _item(p, 1)
    if not p.done:
        raise Damage(f"{len(raw) - p.at} bytes behind a document")
    return fields


def _head(p):
    first = p.take(1)[0]
    major, info = first >> 5, first & 31
    if info < 24:
        return major, info
    if info > 27:
        raise Damage(f"CBOR of indefinite or reserved length {info}")
    return major, p.big(1 << (info - 24))


def _text(raw):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Damage("text is not UTF-8") from None


def _item(p, depth):
    if depth > DEEPEST:
        raise Damage("values are nested too deep")
    start = p.at
    first = p.take(1)[0]
    if first == 0xFB:
        return struct.unpack(">d", p.take(8))[0]
    simple = {0xF4: False, 0xF5: True, 0xF6: None}
    if first in simple:
        return simple[first]
    p.at = start
    major, n = _head(p)
    if major == 0:
        return _integer(n)
    if major == 1:
        return _integer(-1 - n)
    if major == 2:
        return p.take(n)
    if major == 3:
        return _text(p.take(n))
    if major == 4:
        return [_item(p, depth + 1) for _ in range(n)]
    if major == 5:
        return _object(p, n, depth)
    if major == 6:
        return _tagged(p, n)
    raise Damage(f"CBOR of initial byte {first:#04x}")


def _integer(n):
    if not -(1 << 63) <= n < 1 << 63:
        raise Damage(f"integer {n} beyond 64 bits")
    return n


def _object(p, count, depth):
    fields = {}
    for _ in range(count):
        major, n = _head(p)
        if major != 3:
            raise Damage(f"a name of CBOR major type {major} within an object")
        name = _text(p.take(n))
        if name in fields:
            raise Damage(f"field {name!r} twice")
        fields[name] = _item(p, depth + 1)
    return fields


def _tagged(p, tag):
    if tag == 37:
        if _head(p) != (2, 16):
            raise Damage("tag 37 without 16 bytes")
        return uuid.UUID(bytes=p.take(16))
    if tag == 1:
        return Time(_whole(p, "tag 1 without an integer"), 0)
    if tag == 1001:
        return _extended_time(p)
    raise Damage(f"tag {tag}")


def _whole(p, otherwise):
    major, n = _head(p)
    if major > 1:
        raise Damage(otherwise)
    return _integer(n if major == 0 else -1 - n)


def _extended_time(p):
    what = "tag 1001 without seconds and nanoseconds"
    if _head(p) != (5, 2):
        raise Damage(what)
    parts = {_whole(p, what): _whole(p, what) for _ in range(2)}
    if set(parts) != {1, -9} or not 0 <= parts[-9] < 1_000_000_000:
        raise Damage(what)
    return Time(parts[1], parts[-9])


# --- Bytes in order -----------------------------------------------------------------------------


def decode_ordered(raw):
    """All values whose encodings stand one after the other in `raw`."""
    p = _Bytes(raw)
    values = []
    while not p.done:
        values.append(_ordered(p, 0))
    return values


def _ordered(p, depth):
    if depth > DEEPEST:
        raise Damage("values are nested too deep")
    kind = p.big(1)
    if kind == 0x08:
        return MISSING
    if kind == 0x10:
        return None
    if kind == 0x20:
        return p.big(1) == 1
    if kind == 0x30:
        return _ordered_number(p)
    if kind == 0x40:
        return _text(_escaped(p))
    if kind == 0x50:
        return _escaped(p)
    if kind == 0x60:
        return uuid.UUID(bytes=p.take(16))
    if kind == 0x70:
        return Time(p.big(8) - (1 << 63), p.big(4))
    if kind == 0x80:
        return list(_until_zero(p, lambda: _ordered(p, depth + 1)))
    if kind == 0x90:
        return dict(_until_zero(p, lambda: (_name(p), _ordered(p, depth + 1))))
    raise Damage(f"a value in order begins with {kind:#04x}")


def _name(p):
    if p.big(1) != 0x40:
        raise Damage("a name in order is no text")
    return _text(_escaped(p))


def _until_zero(p, read):
    while True:
        if p.at < len(p.raw) and p.raw[p.at] == 0:
            p.at += 1
            return
        yield read()


def _escaped(p):
    out = bytearray()
    while True:
        byte = p.big(1)
        if byte:
            out.append(byte)
            continue
        follower = p.big(1)
        if follower == 0x00:
            return bytes(out)
        if follower != 0xFF:
            raise Damage(f"byte 0 followed by {follower:#04x}")
        out.append(0)


def _ordered_number(p):
    bits = p.big(8)
    bits = bits ^ 1 << 63 if bits >> 63 else bits ^ 0xFFFFFFFFFFFFFFFF
    number = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    if math.isnan(number):
        return number
    if abs(number) >= 2.0**53:
        above = p.big(2)
        if math.isinf(number):
            return number
        return int(number) + above
    return int(number) if number.is_integer() else number


def encode_ordered(value):
    """The bytes in order of a value: what an index has for it."""
    if value is MISSING:
        return b"\x08"
    if value is None:
        return b"\x10"
    if isinstance(value, bool):
        return b"\x20" + bytes([value])
    if isinstance(value, (int, float)):
        return b"\x30" + _encode_number(value)
    if isinstance(value, str):
        return b"\x40" + _escape(value.encode())
    if isinstance(value, bytes):
        return b"\x50" + _escape(value)
    if isinstance(value, uuid.UUID):
        return b"\x60" + value.bytes
    if isinstance(value, Time):
        return b"\x70" + struct.pack(">QI", value.seconds + (1 << 63), value.nanoseconds)
    if isinstance(value, list):
        return b"\x80" + b"".join(map(encode_ordered, value)) + b"\x00"
    names = sorted(value, key=lambda name: name.encode())
    return b"\x90" + b"".join(encode_ordered(n) + encode_ordered(value[n]) for n in names) + b"\x00"


def _escape(raw):
    return raw.replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def _encode_number(value):
    if isinstance(value, float) and math.isnan(value):
        return struct.pack(">Q", 0x7FF8000000000000 | 1 << 63)
    floor = float(value)
    if isinstance(value, int) and int(floor) > value:
        floor = math.nextafter(floor, -math.inf)
    bits = struct.unpack(">Q", struct.pack(">d", floor + 0.0))[0]
    bits = bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63
    out = struct.pack(">Q", bits)
    if abs(floor) >= 2.0**53:
        out += struct.pack(">H", value - int(floor) if isinstance(value, int) else 0)
    return out
