"""CRC-32C and the checksums of pages (format-spec.md, sections 1 and 5)."""

import functools
import struct

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reflected


def _table():
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def crc32c(data, crc=0):
    """The CRC-32C of `data`; of a string in parts, if `crc` is that of the parts before."""
    table = _TABLE
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _multiply(a, b):
    """The product of two polynomials, the highest power of each in its lowest bit."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@functools.lru_cache(maxsize=1 << 16)
def _factor(count):
    """What moves a checksum over `count` bytes."""
    factor, power = 1 << 31, 1 << 23
    while count:
        if count & 1:
            factor = _multiply(factor, power)
        power = _multiply(power, power)
        count >>= 1
    return factor


def shift(crc, count):
    """`crc32c(a + b)` is `shift(crc32c(a), len(b)) ^ crc32c(b)`."""
    return _multiply(_factor(count), crc)


def page_checksum(salt, number, page):
    """The checksum of the page `number` with the bytes `page`."""
    crc = crc32c(struct.pack("<QI", salt, number))
    return crc32c(memoryview(page)[4:], crc) or 1


def record_checksum(salt, head, payload):
    """The checksum of a log record: `head` is its bytes 0 to 47."""
    return crc32c(payload, head_checksum(salt, head))


def head_checksum(salt, head):
    """What the checksum of a log record goes on from at its payload."""
    return crc32c(head, crc32c(struct.pack("<Q", salt)))


assert crc32c(b"123456789") == 0xE3069283
assert shift(crc32c(b"1234"), 5) ^ crc32c(b"56789") == 0xE3069283
