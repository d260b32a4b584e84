"""The log ring, its records, and their operations (format-spec.md, sections 12 and 13)."""

import struct
from dataclasses import dataclass

from checksum import crc32c, head_checksum, record_checksum, shift
from damage import Damage
from pages import Run

HEAD = 56
COMMIT, MARK, SWITCH = 1, 2, 3
CLEAN, RUNS_UNSYNCED = 1, 2  # flags: of a mark, of a commit
BEHIND_CLEAN = 262144  # so far behind the mark of a clean close proof is looked for
_FIELDS = struct.Struct("<4sIQQQQBBHIII")
assert _FIELDS.size == HEAD


class Ring:
    """Consecutive pages whose bytes are used lap after lap."""

    def __init__(self, data, page_size, first_page, count):
        self.first_page = first_page
        self.page_size = page_size
        start = first_page * page_size
        self.raw = data[start : start + count * page_size]
        self.length = count * page_size

    def read(self, position, count):
        at = position % self.length
        part = self.raw[at : at + count]
        return part + self.raw[: count - len(part)]

    def place(self, position):
        """(page, offset) of a position."""
        at = position % self.length
        return self.first_page + at // self.page_size, at % self.page_size


@dataclass
class Record:
    """A record whose own bytes are in order."""

    length: int
    lsn: int
    version: int
    checkpoint: int
    durable: int
    kind: int
    flags: int
    previous: int
    checksum: int
    payload: bytes

    @property
    def size(self):
        return -(-(HEAD + self.length) // 8) * 8

    @property
    def end(self):
        return self.lsn + self.size


def _claimed(ring, position):
    """The record whose header the bytes at `position` of a ring can be, or None. Its payload was not looked at."""
    head = ring.read(position, HEAD)
    magic, length, lsn, version, checkpoint, durable, kind, flags, zero, previous, checksum, zero2 = (
        _FIELDS.unpack(head)
    )
    if magic != b"ALOG" or zero or zero2 or kind not in (COMMIT, MARK, SWITCH):
        return None
    record = Record(length, lsn, version, checkpoint, durable, kind, flags, previous, checksum, None)
    return record if record.size <= ring.length else None


def intact(ring, position, salt):
    """The record at `position` of a ring if its own bytes are in order, or None."""
    record = _claimed(ring, position)
    if record is None:
        return None
    head = ring.read(position, 48)
    body = ring.read(position + HEAD, record.size - HEAD)
    record.payload = body[: record.length]
    if any(body[record.length :]) or record_checksum(salt, head, record.payload) != record.checksum:
        return None
    return record


class Sums:
    """Checksums of a ring up to each 256th byte, as far as they are asked for. That of any part follows from two of them,
    however long it is."""

    STEP = 256

    def __init__(self, ring, salt):
        self.ring = ring
        self.salt = salt
        self.at_steps = [0]

    def up_to(self, place):
        step, rest = divmod(place, self.STEP)
        while len(self.at_steps) <= step:
            here = (len(self.at_steps) - 1) * self.STEP
            self.at_steps.append(crc32c(self.ring.read(here, self.STEP), self.at_steps[-1]))
        return crc32c(self.ring.read(step * self.STEP, rest), self.at_steps[step])

    def is_intact(self, offset, record):
        """Whether the record is there whose header is at `offset`. It may go on at the ring's beginning."""
        payload = offset + HEAD
        end = payload + record.length
        before = head_checksum(self.salt, self.ring.read(offset, 48)) ^ self.up_to(payload)
        if shift(before, record.length) ^ self.up_to(end) != record.checksum:
            return False
        return not any(self.ring.read(end, -record.length % 8))


@dataclass
class Log:
    """What the log holds: the records that count, and how it ends."""

    commits: list
    end: int
    clean: bool
    switched: bool
    laps: int


def read_log(data, header):
    """The records that count, after the checks of section 13."""
    log, proven, rings = _follow(data, header, None)
    room = len(data)  # runs share no page
    for record in log.commits:
        if not record.flags & RUNS_UNSYNCED or record.lsn < proven:
            continue
        runs = _runs(record)
        room -= sum(run.length for run in runs)
        if room < 0 or not all(_is_there(data, header, run) for run in runs):
            log, _, rings = _follow(data, header, record.lsn)
            break
    for ring, since in rings:
        _look_for_proof(ring, since, log.end, header, BEHIND_CLEAN if log.clean else ring.length)
    return log


def _follow(data, header, limit):
    """The log up to `limit` or its end, how far it is known to have been durable, and where to look
    for proof that it went on."""
    size = header.page_size
    ring = Ring(data, size, header.log_page, header.log_pages)
    following = None
    if header.next_log_pages:
        following = Ring(data, size, header.next_log_page, header.next_log_pages)

    position, previous = header.log_start, header.log_start_crc
    since = position  # where the part of the current ring begins
    proven = position
    log = Log([], position, False, False, 0)
    while position != limit:
        record = intact(ring, position, header.salt)
        if record is None or record.lsn != position or record.previous != previous:
            break
        if record.kind != MARK and record.end - since > ring.length:
            break  # it would lie over the records before it
        if record.checkpoint > header.checkpoint:
            raise _newest_header(ring, position)
        proven = max(proven, record.durable)
        if record.kind == MARK:
            log.clean = bool(record.flags & CLEAN)
            break
        log.laps += record.end // ring.length - position // ring.length
        position, previous = record.end, record.checksum
        if record.kind == COMMIT:
            log.commits.append(record)
            continue
        if following is None:
            raise Damage("switch record, but the header names no next ring", *ring.place(record.lsn))
        ring, following, log.switched, since = following, None, True, position
    log.end = position
    rings = [(ring, since)]
    if following is not None:
        rings.append((following, position))
    return log, proven, rings


def _runs(record):
    put_runs = (found for found in operations(record.payload) if found[0] == "put_run")
    return [run for _, _, _, run in put_runs]


def _is_there(data, header, run):
    start = run.first * header.page_size
    value = data[start : start + run.length]
    return run.first >= 2 and len(value) == run.length and crc32c(value) == run.checksum


def _newest_header(ring, position):
    return Damage("the log knows a newer checkpoint: the newest header slot is damaged", *ring.place(position))


def _look_for_proof(ring, since, end, header, within):
    """Fails if a record behind the end, and no more than `within` bytes, shows that acknowledged commits are missing. Those
    that were accepted in this ring lie from `since` to the end, and no other can lie over them."""
    accepted = end - since
    sums = Sums(ring, header.salt)
    for behind in range(accepted, min(ring.length, accepted + within), 8):
        offset = (since + behind) % ring.length
        if ring.raw[offset : offset + 4] != b"ALOG":
            continue
        record = _claimed(ring, offset)
        if record is None or record.lsn % ring.length != offset or record.lsn < end:
            continue
        if accepted and behind + record.size > ring.length:
            continue
        # Last, for bytes that only look like a record can be everywhere.
        if not sums.is_intact(offset, record):
            continue
        if record.checkpoint > header.checkpoint:
            raise _newest_header(ring, offset)
        if record.durable > end:
            raise Damage(
                f"the log ends at position {end}, but was durable up to {record.durable}: "
                "acknowledged commits are damaged",
                *ring.place(end),
            )


class _Payload:
    """Reads the fields of a payload, and never behind its end."""

    def __init__(self, raw):
        self.raw = raw
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.raw):
            raise Damage("payload of a commit ends within an operation")
        part = self.raw[self.at : self.at + count]
        self.at += count
        return part

    def number(self, count):
        return int.from_bytes(self.take(count), "little")

    def key(self):
        return self.take(self.number(2))

    def bound(self):
        kind, key = self.number(1), self.key()
        if kind > 2 or (kind == 0 and key):
            raise Damage(f"bound of kind {kind} with a key of {len(key)} bytes")
        return kind, key


def operations(payload):
    """Yields (name, tree, arguments...) for each operation of a commit."""
    p = _Payload(payload)
    while p.at < len(payload):
        kind, tree = p.number(1), p.number(4)
        if kind == 1:
            yield "put", tree, p.key(), p.take(p.number(4))
        elif kind == 2:
            yield "delete", tree, p.key()
        elif kind == 3:
            yield "delete_range", tree, p.bound(), p.bound()
        elif kind == 4:
            yield "put_run", tree, p.key(), Run.parse(p.take(20))
        elif kind == 5:
            yield "create", tree, p.key().decode()
        elif kind == 6:
            yield "drop", tree
        elif kind == 7:
            yield "rename", tree, p.key().decode()
        else:
            raise Damage(f"operation of kind {kind}")
