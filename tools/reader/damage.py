"""What a reader says of a file that is not as format-spec.md promises."""


class Damage(Exception):
    """A fault: what is wrong, on which page, at which offset of it."""

    def __init__(self, what, page=None, offset=None):
        super().__init__(what)
        self.what = what
        self.page = page
        self.offset = offset

    def as_dict(self):
        return {"fault": self.what, "page": self.page, "offset": self.offset}

    def __str__(self):
        place = ""
        if self.page is not None:
            place = f"page {self.page}"
            if self.offset is not None:
                place += f", offset {self.offset}"
            place += ": "
        return place + self.what


class NotReadable(Exception):
    """No Aurora file, or a newer program's."""


class Faults:
    """Where faults go: to a list when a file is checked, else they end the reading."""

    def __init__(self, collect=False):
        self.collect = collect
        self.found = []

    def add(self, fault):
        if not self.collect:
            raise fault
        self.found.append(fault)
