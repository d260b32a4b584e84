"""CRC-32C and the checksums of pages (format-spec.md, sections 1 and 5)."""

import struct


def _table():
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            # 0x82F63B78 is the polynomial 0x1EDC6F41 with its bits reflected.
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
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


def page_checksum(salt, number, page):
    """The checksum of the page `number` with the bytes `page`."""
    crc = crc32c(struct.pack("<QI", salt, number))
    return crc32c(memoryview(page)[4:], crc) or 1


def record_checksum(salt, head, payload):
    """The checksum of a log record: `head` is its bytes 0 to 47."""
    return crc32c(payload, crc32c(head, crc32c(struct.pack("<Q", salt))))


assert crc32c(b"123456789") == 0xE3069283
