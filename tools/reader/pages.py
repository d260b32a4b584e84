"""Pages, nodes, overflow runs and the walk over a tree (format-spec.md, sections 5 to 10)."""

import struct
from dataclasses import dataclass

from checksum import crc32c, page_checksum
from damage import Damage

PAGE_HEADER = 32
SLOT = 8
OVERFLOW = 0x8000
LEAF, BRANCH, BITMAP, INDEX, UNIFORM_LEAF = 1, 2, 3, 4, 5
UNIFORM_SLOT = 4
UNIFORM_VALUE_MIN = 20
RUN_BYTES = 20

_PAGE_FIELDS = struct.Struct("<IIQBBHIHHHH")
_RUN_FIELDS = struct.Struct("<IIIQ")
_CATALOG_FIELDS = struct.Struct("<IIIB3xQ")


@dataclass(frozen=True)
class Run:
    """A reference to an overflow run."""

    first: int
    length: int
    checksum: int
    birth: int

    @staticmethod
    def parse(raw):
        return Run(*_RUN_FIELDS.unpack(raw))


@dataclass(frozen=True)
class Root:
    """A tree: its root reference, number of entries and level of the root."""

    page: int
    checksum: int
    level: int
    count: int


class Page:
    """One verified page with its header."""

    def __init__(self, number, raw):
        self.number = number
        self.raw = raw
        (
            self.checksum,
            self.page,
            self.birth,
            self.kind,
            self.level,
            self.count,
            self.cells_start,
            self.prefix,
            self.garbage,
            self.appends,
            self.lengths,
        ) = _PAGE_FIELDS.unpack_from(raw)

    def fault(self, what, offset):
        return Damage(what, self.number, offset)


class Pages:
    """The pages of a file, by reference. Remembers what each page was used for."""

    def __init__(self, data, header):
        self.data = data
        self.header = header
        self.size = header.page_size
        self.max_key = self.size // 4
        self.inline_max = (self.size - PAGE_HEADER) // 3
        # Page number -> what uses it, for all that the checkpoint's references led to.
        self.used = {}

    def claim(self, first, count, what):
        """Notes that pages are in use; no page can have two uses."""
        for number in range(first, first + count):
            if number in self.used:
                raise Damage(f"used by {what} and by {self.used[number]}", number, 0)
            self.used[number] = what

    def follow(self, number, checksum, kinds, level, what):
        """The page that a reference leads to, verified."""
        if number < 2 or number >= self.header.pages:
            raise Damage(f"{what}: reference to page {number}, which cannot be", number)
        self.claim(number, 1, what)
        raw = self.data[number * self.size : (number + 1) * self.size]
        page = Page(number, raw)
        computed = page_checksum(self.header.salt, number, raw)
        if not computed == checksum == page.checksum:
            raise page.fault(
                f"{what}: checksum is {page.checksum:#010x}, the reference has "
                f"{checksum:#010x}, the bytes give {computed:#010x}",
                0,
            )
        if page.page != number:
            raise page.fault(f"{what}: page says it is page {page.page}", 4)
        if page.kind not in kinds:
            raise page.fault(f"{what}: kind is {page.kind}, expected one of {kinds}", 16)
        if page.level != level:
            raise page.fault(f"{what}: level is {page.level}, its parent implies {level}", 17)
        if page.birth > self.header.version:
            raise page.fault(f"{what}: page of version {page.birth}, behind the checkpoint's", 8)
        return page

    def run(self, run, claimed_by=None):
        """The value that is in an overflow run."""
        count = -(-run.length // self.size)
        end = run.first * self.size + run.length
        if run.first < 2 or run.length == 0:
            raise Damage(f"run of {run.length} bytes at page {run.first}, which cannot be")
        if claimed_by is not None:
            if run.first + count > self.header.pages:
                raise Damage("run goes beyond the pages of the checkpoint", run.first)
            if run.birth > self.header.version:
                raise Damage(f"run of version {run.birth}, behind the checkpoint's", run.first)
            self.claim(run.first, count, claimed_by)
        if end > len(self.data):
            raise Damage("run goes beyond the end of the file", run.first)
        value = self.data[run.first * self.size : end]
        computed = crc32c(value)
        if computed != run.checksum:
            raise Damage(
                f"value of {run.length} bytes: checksum is {computed:#010x}, "
                f"its reference has {run.checksum:#010x}",
                run.first,
                0,
            )
        return value


class Node:
    """A leaf or branch, with its keys put together and its bounds checked."""

    def __init__(self, pages, page):
        self.pages = pages
        self.page = page
        raw = page.raw
        self.end = pages.size - page.prefix
        if page.count == 0:
            raise page.fault("node without entries", 18)
        if page.prefix > pages.max_key:
            raise page.fault(f"prefix of {page.prefix} bytes", 24)
        self.uniform = page.kind == UNIFORM_LEAF
        self.slot_bytes = UNIFORM_SLOT if self.uniform else SLOT
        if not PAGE_HEADER + self.slot_bytes * page.count <= page.cells_start <= self.end:
            raise page.fault(f"cells start at {page.cells_start}", 20)
        self.prefix = raw[self.end :]
        self.branch = page.kind == BRANCH
        self.keys = []
        self.values = []  # leaf: bytes or Run; branch: (page, checksum, count)
        self.cells = []
        if self.uniform:
            self._uniform()
            return
        for slot in range(page.count):
            self._slot(slot)
        self.check_space()

    def _uniform(self):
        """All suffixes and all values have one length, so the header says where the cells are."""
        page, suffix = self.page, self.page.garbage
        value = page.lengths - 1
        if value < UNIFORM_VALUE_MIN:
            raise page.fault(f"values of {value} bytes in a uniform leaf", 30)
        if page.prefix + suffix > self.pages.max_key:
            raise page.fault(f"suffixes of {suffix} bytes", 26)
        rest = max(suffix - 4, 0)
        cell = rest + value
        if page.cells_start != self.end - page.count * cell:
            raise page.fault(f"{page.count} cells of {cell} bytes from {page.cells_start}", 20)
        for slot in range(page.count):
            at = PAGE_HEADER + UNIFORM_SLOT * slot
            head = struct.unpack_from("<I", page.raw, at)[0].to_bytes(4, "big")
            if any(head[suffix:]):
                raise page.fault(f"head of slot {slot} is longer than its key", at)
            start = self.end - (slot + 1) * cell
            body = page.raw[start : start + cell]
            self.keys.append(self.prefix + head[:suffix] + body[:rest])
            self.values.append(body[rest:])

    def _slot(self, slot):
        page, at = self.page, PAGE_HEADER + SLOT * slot
        head, offset, length = struct.unpack_from("<IHH", page.raw, at)
        overflow, length = length & OVERFLOW, length & ~OVERFLOW
        offset = offset or 65536
        if self.branch and overflow:
            raise page.fault(f"slot {slot} of a branch has an overflow flag", at + 6)
        no_key = self.branch and slot == 0
        if no_key and (head or length):
            raise page.fault("slot 0 of a branch has a key", at)
        if not no_key and len(self.prefix) + length > self.pages.max_key:
            raise page.fault(f"key of slot {slot} is too long", at + 6)
        rest = max(length - 4, 0)
        head_bytes = head.to_bytes(4, "big")
        if any(head_bytes[length:]):
            raise page.fault(f"head of slot {slot} is longer than its key", at)

        in_cell = not (self.branch or overflow or page.lengths)
        fixed = 16 if self.branch else 2 if in_cell else 0
        tail = RUN_BYTES if overflow else 0 if self.branch or in_cell else page.lengths - 1
        self._bounds(slot, offset, fixed + rest + tail)
        if in_cell:
            tail = struct.unpack_from("<H", page.raw, offset)[0]
            self._bounds(slot, offset, fixed + rest + tail)
        self.cells.append((offset, fixed + rest + tail))
        body = page.raw[offset + fixed : offset + fixed + rest + tail]
        if no_key:
            key = None
        else:
            key = self.prefix + head_bytes[:length] + body[:rest]
        self.keys.append(key)
        self.values.append(self._value(offset, overflow, body[rest:]))

    def _value(self, offset, overflow, body):
        if self.branch:
            return struct.unpack_from("<IIQ", self.page.raw, offset)
        return Run.parse(body) if overflow else body

    def _bounds(self, slot, offset, length):
        # A cell of no bytes takes no room, and early writers could leave it before the others.
        is_before = length > 0 and offset < self.page.cells_start
        if is_before or offset + length > self.end:
            raise self.page.fault(
                f"cell of slot {slot} ({length} bytes at {offset}) is outside of the cells",
                PAGE_HEADER + SLOT * slot + 4,
            )

    def check_space(self):
        """Cells do not overlap, and what they leave over is `garbage`."""
        at = self.page.cells_start
        for offset, length in sorted(self.cells):
            if length == 0:
                continue
            if offset < at:
                raise self.page.fault("cells overlap", offset)
            at = offset + length
        used = sum(length for _, length in self.cells)
        left = self.end - self.page.cells_start - used
        if left != self.page.garbage:
            raise self.page.fault(f"garbage is {self.page.garbage}, but {left} are left", 26)


def walk(pages, root, what, faults, lower=None, upper=None):
    """Yields every (key, value) of a tree in order; checks order, counts and separators."""
    if root.page == 0:
        if root.checksum or root.level or root.count:
            faults.add(Damage(f"{what}: an empty tree with checksum, level or count"))
        return
    try:
        page = pages.follow(
            root.page,
            root.checksum,
            (BRANCH,) if root.level else (LEAF, UNIFORM_LEAF),
            root.level,
            what,
        )
        node = Node(pages, page)
        _check_order(node, lower, upper)
        total = sum(v[2] for v in node.values) if node.branch else page.count
        if total != root.count:
            raise page.fault(f"{what}: {total} entries, its parent says {root.count}", 18)
    except Damage as fault:
        faults.add(fault)
        return
    if not node.branch:
        yield from _entries(pages, node, what, faults)
        return
    for slot, (child, checksum, count) in enumerate(node.values):
        below = lower if slot == 0 else node.keys[slot]
        above = node.keys[slot + 1] if slot + 1 < len(node.keys) else upper
        if count == 0 or child == 0:
            at = PAGE_HEADER + SLOT * slot
            faults.add(page.fault(f"{what}: child {slot} without page or entries", at))
            continue
        yield from walk(
            pages, Root(child, checksum, page.level - 1, count), what, faults, below, above
        )


def _check_order(node, lower, upper):
    before = lower
    for slot, key in enumerate(node.keys):
        at = PAGE_HEADER + node.slot_bytes * slot
        if key is None:
            continue
        # A leaf's first key may equal the bound; otherwise keys grow.
        first = slot == 0
        if before is not None and (key < before or (key == before and not first)):
            raise node.page.fault(f"key of slot {slot} is not above the one before", at)
        if node.branch and before is not None and key == before:
            raise node.page.fault(f"separator of slot {slot} equals its lower bound", at)
        if upper is not None and key >= upper:
            raise node.page.fault(f"key of slot {slot} is not below the separator above", at)
        before = key


def _entries(pages, node, what, faults):
    for slot, (key, value) in enumerate(zip(node.keys, node.values)):
        try:
            length = value.length if isinstance(value, Run) else len(value)
            inline = SLOT + 2 + len(key) + length <= pages.inline_max
            if inline == isinstance(value, Run):
                raise node.page.fault(
                    f"{what}: value of {length} bytes is {'not ' if inline else ''}in its leaf",
                    PAGE_HEADER + node.slot_bytes * slot,
                )
            if isinstance(value, Run):
                value = pages.run(value, what)
        except Damage as fault:
            faults.add(fault)
            continue
        yield key, value


def catalog_entry(raw):
    """(number, root) of a catalog's value."""
    if len(raw) != _CATALOG_FIELDS.size:
        raise Damage(f"catalog value of {len(raw)} bytes")
    number, page, checksum, level, count = _CATALOG_FIELDS.unpack(raw)
    return number, Root(page, checksum, level, count)
