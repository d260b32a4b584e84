"""The space map (format-spec.md, section 11)."""

import struct

from damage import Damage
from pages import BITMAP, INDEX, PAGE_HEADER

ENTRY = struct.Struct("<III")


def used_pages(pages):
    """The numbers of the pages that the space map marks as used."""
    header = pages.header
    bits = 8 * (header.page_size - PAGE_HEADER)
    wanted = -(-header.pages // bits)
    bitmaps = []
    if header.space_level < 1:
        raise Damage("root of the space map is at level 0")
    _descend(pages, header.space_page, header.space_checksum, header.space_level, bitmaps)
    if len(bitmaps) != wanted:
        raise Damage(f"{len(bitmaps)} bitmaps, expected {wanted}", header.space_page)
    used = set()
    for k, (raw, counted) in enumerate(bitmaps):
        if raw is None:
            continue
        numbers = {
            k * bits + 8 * byte + bit
            for byte, value in enumerate(raw[PAGE_HEADER:])
            if value
            for bit in range(8)
            if value >> bit & 1
        }
        if len(numbers) != counted:
            raise Damage(f"bitmap {k} has {len(numbers)} bits, its parent says {counted}")
        used |= numbers
    beyond = [n for n in used if n >= header.pages]
    if beyond:
        raise Damage(f"page {beyond[0]} is marked as used, and behind the last page")
    return used


def _descend(pages, number, checksum, level, bitmaps):
    """Adds (raw or None, bits counted by the parent) for each bitmap; returns the sum."""
    page = pages.follow(number, checksum, (INDEX,), level, "space map")
    if PAGE_HEADER + ENTRY.size * page.count > pages.size:
        raise page.fault(f"{page.count} entries do not fit", 18)
    total = 0
    for i in range(page.count):
        at = PAGE_HEADER + ENTRY.size * i
        child, child_checksum, used = ENTRY.unpack_from(page.raw, at)
        total += used
        if child == 0:
            if used:
                raise page.fault(f"entry {i} counts pages and has no page", at)
            _absent(pages, level - 1, bitmaps)
        elif level == 1:
            map_page = pages.follow(child, child_checksum, (BITMAP,), 0, "space map")
            bitmaps.append((map_page.raw, used))
        elif _descend(pages, child, child_checksum, level - 1, bitmaps) != used:
            raise page.fault(f"entry {i} does not count the pages below", at)
    return total


def _absent(pages, level, bitmaps):
    """A part of the map that is not there: all of its bitmaps, as many as fit the file."""
    header = pages.header
    wanted = -(-header.pages // (8 * (header.page_size - PAGE_HEADER)))
    fan_out = (header.page_size - PAGE_HEADER) // ENTRY.size
    for _ in range(min(fan_out**level, wanted - len(bitmaps))):
        bitmaps.append((None, 0))
