"""Header slots, and which of them is the durable checkpoint (format-spec.md, section 4)."""

import struct
from dataclasses import dataclass

from checksum import crc32c
from damage import Damage, NotReadable

SLOT_BYTES = 256
PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)

# All fields from offset 0 to 140, reserved bytes as padding.
_FIELDS = struct.Struct("<8sIIQQQQQQI4xIIQB7xIIB7xIIIIQI")
assert _FIELDS.size == 140


@dataclass
class Header:
    """The fields of a header slot."""

    magic: bytes
    format: int
    page_size: int
    checkpoint: int
    version: int
    salt: int
    compatible: int
    read_compatible: int
    incompatible: int
    pages: int
    catalog_page: int
    catalog_checksum: int
    catalog_count: int
    catalog_level: int
    space_page: int
    space_checksum: int
    space_level: int
    log_page: int
    log_pages: int
    next_log_page: int
    next_log_pages: int
    log_start: int
    log_start_crc: int


# What a slot can be, in the order of the checks.
ABSENT, TORN, NEWER, WRONG, VALID = "absent", "damaged", "newer", "wrong", "valid"


def judge(raw):
    """What the 256 bytes of a slot are: (one of the five, its header or None)."""
    if len(raw) < SLOT_BYTES or raw[:8] != b"AURORADB":
        return ABSENT, None
    if crc32c(raw[:252]) != struct.unpack_from("<I", raw, 252)[0]:
        return TORN, None
    header = Header(*_FIELDS.unpack_from(raw))
    if header.format != 1 or header.incompatible != 0:
        return NEWER, header
    if header.page_size not in PAGE_SIZES or not _rings_are_possible(header):
        return WRONG, header
    counts = (header.checkpoint, header.version, header.log_start)
    if max(counts) >= 1 << 63 or header.log_start % 8 != 0:
        return WRONG, header
    return VALID, header


def _rings_are_possible(header):
    rings = [(header.log_page, header.log_pages)]
    if header.next_log_pages != 0:
        rings.append((header.next_log_page, header.next_log_pages))
    if not all(p >= 2 and n >= 1 and p + n <= header.pages for p, n in rings):
        return False
    named = (header.catalog_page, header.space_page)
    if any(p <= page < p + n for p, n in rings for page in named):
        return False
    ends = sorted(rings)
    return all(p + n <= q for (p, n), (q, _) in zip(ends, ends[1:]))


def choose(data):
    """The header of the durable checkpoint of the file with the bytes `data`, and remarks."""
    found = {0: judge(data[:SLOT_BYTES]), 1: (ABSENT, None)}
    if found[0][0] == VALID:
        at = found[0][1].page_size
        found[1] = judge(data[at : at + SLOT_BYTES])
    else:
        torn = False
        for at in PAGE_SIZES:
            state, header = judge(data[at : at + SLOT_BYTES])
            torn = torn or state == TORN
            if header is not None and header.page_size == at:
                found[1] = (state, header)
                break
        if found[1][0] == ABSENT and torn:
            found[1] = (TORN, None)

    states = [found[0][0], found[1][0]]
    if NEWER in states:
        raise NotReadable("a newer program's file: format or features are not known")
    valid = [header for state, header in found.values() if state == VALID]
    if not valid:
        if TORN in states or WRONG in states:
            raise Damage("no header slot is valid", 0, 0)
        raise NotReadable("not an Aurora file, or one whose creation was not finished")
    remarks = [
        f"header slot {slot} is {state}"
        for slot, (state, _) in found.items()
        if state in (TORN, WRONG)
    ]
    return max(valid, key=lambda header: header.checkpoint), remarks
