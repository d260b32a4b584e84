"""A whole database: the newest valid checkpoint, and the log replayed over it in memory."""

from damage import Damage, Faults
from header import choose
from log import operations, read_log
from pages import Pages, Root, catalog_entry, walk
from space import used_pages

MAX_TREE = 16_777_215  # the highest number of a tree
DIRECT = 32768  # a run that the log names is no shorter
MAX_VERSION = (1 << 63) - 1


class Database:
    """All trees of a file: `trees` maps names to dictionaries of keys and values."""

    def __init__(self, data, faults=None):
        self.data = data
        self.faults = faults or Faults()
        self.header, self.remarks = choose(data)
        header = self.header
        if len(data) < header.pages * header.page_size:
            raise Damage(
                f"the file has {len(data)} bytes, its header says "
                f"{header.pages} pages of {header.page_size}"
            )
        self.pages = Pages(data, header)
        self.version = header.version
        self.log = read_log(data, header)
        self._numbers = {}  # number of a tree -> its name
        self._contents = {}  # number of a tree -> its keys and values
        self._load()
        self._check_space()
        self._replay()

    @property
    def trees(self):
        return {
            name: self._contents[number]
            for number, name in sorted(self._numbers.items(), key=lambda item: item[1].encode())
        }

    def _load(self):
        header = self.header
        for number, name in ((0, "header slot 0"), (1, "header slot 1")):
            self.pages.claim(number, 1, name)
        self.pages.claim(header.log_page, header.log_pages, "the log")
        if header.next_log_pages:
            self.pages.claim(header.next_log_page, header.next_log_pages, "the next log")
        catalog = Root(
            header.catalog_page,
            header.catalog_checksum,
            header.catalog_level,
            header.catalog_count,
        )
        for name, value in walk(self.pages, catalog, "the catalog", self.faults):
            number, root = catalog_entry(value)
            if number in self._numbers or number > MAX_TREE:
                raise Damage(f"number {number} of tree {name!r} is taken or too high")
            self._numbers[number] = name.decode("utf-8")
            what = f"tree {self._numbers[number]!r}"
            self._contents[number] = dict(walk(self.pages, root, what, self.faults))

    def _check_space(self):
        try:
            marked = used_pages(self.pages)
        except Damage as fault:
            self.faults.add(fault)
            return
        if self.faults.found:
            return  # pages behind a damaged one were not reached
        reached = set(self.pages.used)
        for number in sorted(marked ^ reached)[:20]:
            what = "is used, but not marked" if number in reached else "is marked, but not used"
            self.faults.add(Damage(f"page {what}", number))

    def _replay(self):
        self._last = max((record.version for record in self.log.commits[-1:]), default=0)
        if self._last > MAX_VERSION:
            raise Damage(f"the log has a commit of version {self._last}")
        for record in self.log.commits:
            for operation in operations(record.payload):
                self._apply(*operation)
            self.version = record.version

    def _apply(self, name, number, *arguments):
        if name == "create":
            if number in self._numbers or arguments[0] in self._numbers.values():
                raise Damage(f"the log creates tree {number} {arguments[0]!r}, which there is")
            self._numbers[number], self._contents[number] = arguments[0], {}
            return
        if number not in self._numbers:
            raise Damage(f"the log has an operation for tree {number}, which is not there")
        tree = self._contents[number]
        if name == "put":
            tree[self._key(arguments[0])] = arguments[1]
        elif name == "put_run":
            tree[self._key(arguments[0])] = self._log_run(arguments[1])
        elif name == "delete":
            tree.pop(arguments[0], None)
        elif name == "delete_range":
            for key in [k for k in tree if _within(k, *arguments)]:
                del tree[key]
        elif name == "drop":
            del self._numbers[number], self._contents[number]
        elif name == "rename":
            if arguments[0] in self._numbers.values():
                raise Damage(f"the log gives two trees the name {arguments[0]!r}")
            self._numbers[number] = arguments[0]

    def _key(self, key):
        if len(key) > self.pages.max_key:
            raise Damage(f"the log has a key of {len(key)} bytes")
        return key

    def _log_run(self, run):
        if run.length < DIRECT:
            raise Damage(f"the log names the place of a value of {run.length} bytes", run.first, 0)
        if run.birth > self._last:
            raise Damage(f"the log names a run of version {run.birth}, behind its last", run.first)
        self.pages.claim(run.first, -(-run.length // self.pages.size), "a run of the log")
        return self.pages.run(run)


def _within(key, lower, upper):
    kind, bound = lower
    if (kind == 1 and key < bound) or (kind == 2 and key <= bound):
        return False
    kind, bound = upper
    return not ((kind == 1 and key > bound) or (kind == 2 and key >= bound))
