#!/usr/bin/env python3
"""Lists or checks an Aurora file. Written from format-spec.md alone; see README.md."""

import argparse
import json
import os
import sys

from damage import Damage, Faults, NotReadable
from database import Database
from own_trees import OwnTrees


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--check", action="store_true", help="look for damage; list nothing")
    parser.add_argument("--summary", action="store_true", help="header and log only")
    parser.add_argument("--raw", action="store_true", help="trees only, nothing decoded")
    parser.add_argument("--decoded", action="store_true", help="the decoded forms only")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    try:
        status = run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads has seen enough. What is left is for nobody, at the end of the program either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NotReadable as reason:
        print(f"{arguments.file}: {reason}", file=sys.stderr)
        return 2
    except OSError as error:
        print(error, file=sys.stderr)
        return 2


def run(arguments):
    with open(arguments.file, "rb") as file:
        data = file.read()
    faults = Faults(collect=arguments.check)
    try:
        database = Database(data, faults)
        own = OwnTrees(database.trees, faults)
        if arguments.check:
            own.check()
        elif arguments.summary:
            write(summary(database))
        else:
            for line in listing(database, own, arguments):
                write(line)
    except Damage as fault:
        faults.found.append(fault)
    except UnicodeDecodeError as error:
        faults.found.append(Damage(f"a name is not UTF-8: {error}"))
    for fault in faults.found:
        write(fault.as_dict())
        print(f"{arguments.file}: {fault}", file=sys.stderr)
    return 1 if faults.found else 0


def listing(database, own, arguments):
    if not arguments.decoded:
        for name, entries in database.trees.items():
            yield {"what": "tree", "tree": name, "entries": len(entries)}
            for key, value in sorted(entries.items()):
                yield {"tree": name, "key": key.hex(), "value": value.hex()}
    if not arguments.raw:
        yield from own.lines()


def summary(database):
    header, log = database.header, database.log
    return {
        "page_size": header.page_size,
        "pages": header.pages,
        "checkpoint": header.checkpoint,
        "checkpoint_version": header.version,
        "version": database.version,
        "log_commits": len(log.commits),
        "log_laps": log.laps,
        "log_switched": log.switched,
        "closed": log.clean,
        "trees": {name: len(entries) for name, entries in database.trees.items()},
        "remarks": database.remarks,
    }


def write(line):
    print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
