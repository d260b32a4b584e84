"""The database's own trees, decoded and checked (format-spec.md, sections 20 to 22)."""

import struct
import uuid
from dataclasses import dataclass, field

from checksum import crc32c
from damage import Damage
from values import MISSING, Time, as_json, decode_document, decode_ordered, encode_ordered, fields_as_json

KEYS, EXPIRY, META = "aurora/keys", "aurora/expiry", "aurora/meta"
CHUNKS, STAGED, COLLECTIONS = "aurora/chunks", "aurora/staged", "aurora/collections"
LONGEST_PART = 512


@dataclass
class Collection:
    """A collection's record, and its documents by encoded id."""

    name: str
    record: dict
    documents: dict = field(default_factory=dict)

    @property
    def number(self):
        return self.record["number"]


class OwnTrees:
    """What keys, blobs and collections a database holds."""

    def __init__(self, trees, faults):
        self.trees = trees
        self.faults = faults
        self.keys = {}  # key -> (kind, expiry or None, payload)
        self.collections = []
        self._chunks_of = {}
        self._each(KEYS, self._read_key)
        self._each(COLLECTIONS, self._read_collection)

    def tree(self, name):
        return dict(sorted(self.trees.get(name, {}).items()))

    def _each(self, name, read):
        for key, value in self.tree(name).items():
            try:
                read(key, value)
            except Damage as fault:
                fault.what = f"{name}, key {key.hex()}: {fault.what}"
                self.faults.add(fault)

    # --- keys and blobs ---

    def _read_key(self, key, record):
        kind = record[0] if record else 0x7F
        expires, kind, payload = kind & 0x80, kind & 0x7F, record[1:]
        expiry = None
        if expires:
            if len(payload) < 8:
                raise Damage("record ends within its expiry")
            expiry, payload = struct.unpack_from("<Q", payload)[0], payload[8:]
        if kind > 1:
            raise Damage(f"record of kind {kind}")
        self.keys[key] = (kind, expiry, payload)

    def blob(self, payload):
        """(metadata, content) of a blob."""
        if len(payload) < 34:
            raise Damage("record of a blob is too short")
        number, size, chunk, checksum, created = struct.unpack_from("<QQIIQ", payload)
        if not 1 <= chunk <= 1_048_576:
            raise Damage(f"chunks of {chunk} bytes")
        texts = _Texts(payload, 32)
        kind = texts.text()
        entries = {}
        for _ in range(texts.number()):
            name = texts.text()
            entries[name] = texts.text()
        if texts.at != len(payload):
            raise Damage("bytes behind the record of a blob")
        content = self._content(number, size, chunk)
        if crc32c(content) != checksum:
            raise Damage("content of a blob does not match its checksum")
        meta = {"number": number, "size": size, "chunk": chunk, "created": created}
        meta |= {"checksum": checksum}
        return meta | {"type": kind, "entries": entries}, content

    def _content(self, number, size, chunk):
        chunks = self.trees.get(CHUNKS, {})
        count = -(-size // chunk)
        parts = []
        for i in range(count):
            part = chunks.get(struct.pack(">QI", number, i))
            wanted = min(chunk, size - i * chunk)
            if part is None or len(part) != wanted:
                raise Damage(f"chunk {i} of blob {number} is missing or not {wanted} bytes")
            parts.append(part)
        self._chunks_of[number] = count
        return b"".join(parts)

    # --- collections ---

    def _read_collection(self, name, raw):
        collection = Collection(name.decode("utf-8"), decode_document(raw, []))
        if collection.record.get("format") != 1:
            raise Damage(f"format {collection.record.get('format')} of a collection")
        if not _is_record(collection.record):
            raise Damage("a field of the record of a collection is missing or of another type")
        self.collections.append(collection)
        names = collection.record["names"]
        tree = f"aurora/documents/{collection.number}"

        def read(encoded, document):
            fields = decode_document(document, names)
            identity = decode_id(encoded)
            if "id" in fields and fields["id"] != identity:
                raise Damage(f"id is {fields['id']!r}, but its key says {identity!r}")
            collection.documents[encoded] = fields

        self._each(tree, read)

    # --- listing ---

    def lines(self):
        """Everything, as objects for JSON."""
        for key, (kind, expiry, payload) in self.keys.items():
            line = {"what": "key", "key": key.hex(), "expires": expiry}
            if kind == 0:
                yield line | {"value": payload.hex()}
                continue
            try:
                meta, content = self.blob(payload)
                yield line | {"blob": meta, "content": content.hex()}
            except Damage as fault:
                self.faults.add(fault)
        for key in self.tree(EXPIRY):
            if len(key) < 9:
                self.faults.add(Damage(f"{EXPIRY}: entry {key.hex()} is too short"))
                continue
            expiry, owner = struct.unpack_from(">QB", key)
            yield {"what": "expiry", "expires": expiry, "owner": owner, "name": key[9:].hex()}
        for key, value in self.tree(META).items():
            yield {
                "what": "meta",
                "name": key.decode(),
                "value": int.from_bytes(value, "little"),
            }
        for collection in self.collections:
            yield from self._collection_lines(collection)

    def _collection_lines(self, collection):
        name = collection.name
        yield {
            "what": "collection",
            "name": name,
            "record": fields_as_json(collection.record),
        }
        for encoded, fields in collection.documents.items():
            yield {
                "what": "document",
                "collection": name,
                "id": as_json(decode_id(encoded)),
                "fields": fields_as_json(fields),
            }
        for index in collection.record["indexes"]:
            tree = f"aurora/index/{collection.number}/{index['number']}"
            for entry in self.tree(tree):
                try:
                    yield self._entry_line(name, index, entry)
                except Damage as fault:
                    fault.what = f"{tree}, entry {entry.hex()}: {fault.what}"
                    self.faults.add(fault)

    def _entry_line(self, name, index, entry):
        part, encoded = split_entry(entry)
        line = {"what": "entry", "collection": name, "index": index["number"], "kind": part[0]}
        if len(part) < LONGEST_PART:
            line["values"] = [as_json(v) for v in decode_ordered(part[1:])]
        else:
            line["cut"] = part[1:].hex()
        return line | {"id": as_json(decode_id(encoded))}

    # --- checks ---

    def check(self):
        """Keys against their expiry, blobs against chunks, documents against indexes."""
        self._check_expiry()
        self._check_chunks()
        for collection in self.collections:
            for index in collection.record["indexes"]:
                self._check_index(collection, index)

    def _check_expiry(self):
        if any(len(key) < 9 for key in self.tree(EXPIRY)):
            self.faults.add(Damage(f"{EXPIRY} has entries that are too short"))
        owners = {key[8] for key in self.tree(EXPIRY) if len(key) >= 9}
        if owners - {0, 1}:
            self.faults.add(Damage(f"{EXPIRY} has owners {owners}"))
        found = {key for key in self.tree(EXPIRY) if key[8:9] == b"\0"}
        wanted = {
            struct.pack(">QB", expiry, 0) + key
            for key, (_, expiry, _) in self.keys.items()
            if expiry is not None
        }
        for entry in sorted(found ^ wanted):
            what = "is missing" if entry in wanted else "has no key"
            self.faults.add(Damage(f"{EXPIRY}: entry {entry.hex()} {what}"))
        found = {key for key in self.tree(EXPIRY) if key[8:9] == b"\1"}
        wanted = {
            struct.pack(">QBI", expiry, 1, collection.number) + encoded
            for collection in self.collections
            for encoded, fields in collection.documents.items()
            if (expiry := document_expiry(collection.record, fields)) is not None
        }
        for entry in sorted(found ^ wanted):
            what = "is missing" if entry in wanted else "has no document"
            self.faults.add(Damage(f"{EXPIRY}: entry {entry.hex()} {what}"))

    def _check_chunks(self):
        staged = {int.from_bytes(key, "big") for key in self.tree(STAGED)}
        for kind, _, payload in self.keys.values():
            if kind == 1:
                try:
                    self.blob(payload)
                except Damage as fault:
                    self.faults.add(fault)
        for key in self.tree(CHUNKS):
            if len(key) != 12:
                self.faults.add(Damage(f"{CHUNKS}: key {key.hex()} is not 12 bytes long"))
                continue
            number, i = struct.unpack(">QI", key)
            if number not in staged and i >= self._chunks_of.get(number, 0):
                self.faults.add(Damage(f"chunk {i} of {number} belongs to no blob"))

    def _check_index(self, collection, index):
        tree = f"aurora/index/{collection.number}/{index['number']}"
        found = set(self.tree(tree))
        wanted, due = set(), set()
        for encoded, fields in collection.documents.items():
            taken = holds(index["only"], fields) if "only" in index else True
            if taken is False:
                continue
            entries = entries_of(index["paths"], fields, encoded)
            wanted |= entries
            # While an index is built, what was written meanwhile may be in it. What is in must still be right.
            if taken and encoded <= index.get("built_to", encoded):
                due |= entries
        if index.get("unique") is True and "built_to" not in index:
            self._check_unique(collection, index, tree)
        missing = due - found
        for entry in sorted(missing):
            self.faults.add(Damage(f"{tree}: entry {entry.hex()} is missing"))
        for entry in sorted(found - wanted):
            self.faults.add(Damage(f"{tree}: entry {entry.hex()} matches no document"))


    def _check_unique(self, collection, index, tree):
        """What expires is left out: there is no clock here that says whether it counts."""
        owners = {}
        for encoded, fields in collection.documents.items():
            taken = holds(index["only"], fields) if "only" in index else True
            if not taken or document_expiry(collection.record, fields) is not None:
                continue
            for value in unique_values(index["paths"], fields):
                if owners.setdefault(value, encoded) != encoded:
                    what = f"{tree}: documents {owners[value].hex()} and {encoded.hex()} have the same value"
                    self.faults.add(Damage(what))


class _Texts:
    def __init__(self, raw, at):
        self.raw = raw
        self.at = at

    def _take(self, count):
        part = self.raw[self.at : self.at + count]
        if len(part) != count:
            raise Damage("record of a blob ends too early")
        self.at += count
        return part

    def number(self):
        return int.from_bytes(self._take(2), "little")

    def text(self):
        return self._take(self.number()).decode("utf-8")


def decode_id(encoded):
    """The id of a document: a UUID, a string or an integer."""
    values = decode_ordered(encoded)
    kinds = (int, str, uuid.UUID)
    if len(values) != 1 or len(encoded) > 255 or type(values[0]) not in kinds:
        raise Damage(f"{encoded.hex()} is no id")
    if type(values[0]) is int and not -(1 << 63) <= values[0] < 1 << 63:
        raise Damage(f"{encoded.hex()} is a number beyond 64 bits")
    return values[0]


def _is_record(record):
    """Whether the record of a collection has the fields that it must have."""
    number = lambda value: type(value) is int and 0 <= value < 1 << 32
    texts = lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value)
    indexes = record.get("indexes")
    if not isinstance(indexes, list) or not all(isinstance(i, dict) for i in indexes):
        return False
    is_timed = isinstance(record.get("expires"), str) and type(record.get("expires_after_ms")) is int
    return (
        all(number(record.get(name)) for name in ("number", "version", "next_index"))
        and texts(record.get("names"))
        and ("expires" not in record or (is_timed and record["expires_after_ms"] >= 0))
        and all(number(i.get("number")) and texts(i.get("paths")) for i in indexes)
        and all(isinstance(i.get("built_to", b""), bytes) for i in indexes)
    )


def unique_values(paths, fields):
    """What no other document may have, if the index is unique."""
    values = [at_path(fields, path) for path in paths]
    if any(value is MISSING or value is None for value in values):
        return set()
    if len(values) == 1 and isinstance(values[0], list):
        return {encode_ordered(element) for element in values[0] if element is not None}
    return {b"".join(map(encode_ordered, values))}


def split_entry(entry):
    """(part for the values, encoded id) of an index entry."""
    length = entry[-1] if entry else 0
    part, encoded = entry[: len(entry) - 1 - length], entry[len(entry) - 1 - length : -1]
    if not part or part[0] not in (1, 2) or len(part) > LONGEST_PART:
        raise Damage("no entry of an index")
    return part, encoded


def document_expiry(record, fields):
    """When a document expires, in milliseconds since 1970; None if it does not."""
    start = at_path(fields, record["expires"]) if "expires" in record else None
    if not isinstance(start, Time):
        return None
    milliseconds = start.seconds * 1000 + start.nanoseconds // 1_000_000
    expiry = max(milliseconds, 0) + record["expires_after_ms"]
    return expiry if expiry < 1 << 64 else None


def at_path(fields, path):
    """The value at a path: of the field with that name, or within the object of its first name."""
    if path in fields:
        return fields[path]
    first, dot, rest = path.partition(".")
    if dot and isinstance(fields.get(first), dict):
        return at_path(fields[first], rest)
    return MISSING


def holds(condition, fields):
    """Whether a document matches the condition of an index. None: a regular expression decides, which is not tried."""
    if not isinstance(condition, dict):
        raise Damage("a condition of an index is no object")
    if "not" in condition:
        inner = holds(condition["not"], fields)
        return None if inner is None else not inner
    for name, decides in (("and", False), ("or", True)):
        if name in condition:
            answers = [holds(inner, fields) for inner in _list(condition[name])]
            return decides if decides in answers else None if None in answers else not decides
    if not isinstance(condition.get("field"), str) or "value" not in condition:
        raise Damage("a condition of an index has no field or no value")
    return _passes(condition.get("test"), at_path(fields, condition["field"]), condition["value"])


def _passes(test, found, value):
    if test == "eq":
        return encode_ordered(None if found is MISSING else found) == encode_ordered(value)
    if test in _ORDERS:
        a, b = encode_ordered(found), encode_ordered(value)
        return a[0] == b[0] and _ORDERS[test](a, b)
    if test == "between":
        low, high = _list(value, 2)
        return _passes("gte", found, low) and _passes("lte", found, high)
    if test == "in":
        return any(_passes("eq", found, one) for one in _list(value))
    if test == "contains":
        if isinstance(found, str) and isinstance(value, str):
            return value in found
        return isinstance(found, list) and any(_passes("eq", one, value) for one in found)
    if test in ("starts_with", "ends_with", "matches"):
        if not isinstance(value, str):
            raise Damage(f"a condition {test} of an index has no text")
        if not isinstance(found, str):
            return False
        if test == "matches":
            return None
        return found.startswith(value) if test == "starts_with" else found.endswith(value)
    if test == "exists":
        return found is not MISSING
    if test == "is_null":
        return found is MISSING or found is None
    if test == "length":
        low, high = _list(value, 2)
        return isinstance(found, list) and low <= len(found) <= high
    raise Damage(f"a condition of an index has the test {test!r}")


_ORDERS = {"gt": bytes.__gt__, "gte": bytes.__ge__, "lt": bytes.__lt__, "lte": bytes.__le__}


def _list(value, length=None):
    if not isinstance(value, list) or length not in (None, len(value)):
        raise Damage("a condition of an index has no list where there has to be one")
    return value


def entries_of(paths, fields, encoded):
    """The entries of a document in an index."""
    values = [at_path(fields, path) for path in paths]
    parts = {b"\1" + b"".join(map(encode_ordered, values))}
    if len(values) == 1 and isinstance(values[0], list):
        parts |= {b"\2" + encode_ordered(element) for element in values[0]}
    tail = encoded + bytes([len(encoded)])
    return {part[:LONGEST_PART] + tail for part in parts}
