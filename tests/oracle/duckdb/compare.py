#!/usr/bin/env python3
"""Asks a Stratalog node and DuckDB the same of the same real files, and tells where the answers differ."""

import argparse
import datetime
import decimal
import gzip
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

import duckdb

from statements import FILES


def main():
    """Compares all files that are asked for; the exit code says whether all agree."""
    arguments = options()
    differing = asked = 0
    for name, form, time_field, statements in FILES:
        source = arguments.data / name
        if arguments.only not in name or not source.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            lines = unpack(source, folder / "lines", arguments.lines)
            with Node(arguments.binary, folder / "data") as node:
                produce(node, folder / "lines", form, time_field)
                duck = load(folder / "lines", form)
                for place in ("tail", "segments"):
                    wrong = sum(not agree(node, duck, pair(one), f"{name}, {place}") for one in statements)
                    differing, asked = differing + wrong, asked + len(statements)
                    node.command("topic", "seal", "t")
            print(f"{name}: {lines} lines, {len(statements)} statements in the tail and in segments")
    print(f"{asked} answers, {differing} differ")
    return 1 if differing or not asked else 0


def options():
    here = pathlib.Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/stratalog", help="the stratalog binary")
    parser.add_argument("--data", type=pathlib.Path, default=here.parents[3] / "../shared/data", help="the real files")
    parser.add_argument("--lines", type=int, default=None, help="the first lines of each file only")
    parser.add_argument("--only", default="", help="files with this in their name only")
    return parser.parse_args()


def pair(statement):
    return statement if isinstance(statement, tuple) else (statement, statement)


def unpack(source, target, limit):
    """Writes the first lines of a packed file; how many there are."""
    if source.suffix == ".gz":
        packed = gzip.open(source, "rb")
    else:
        packed = subprocess.Popen(["zstd", "-dc", str(source)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    count = 0
    with packed, open(target, "wb") as out:
        for line in packed:
            if limit is not None and count >= limit:
                break
            out.write(line)
            count += 1
    return count


class Node:
    """A node in a process of its own, on ports of its own."""

    def __init__(self, binary, data):
        self.binary = binary
        serve = [binary, "serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", str(data)]
        self.process = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.grpc, self.http = self.address("gRPC"), self.address("HTTP")

    def address(self, what):
        for line in self.process.stdout:
            name, _, address = line.strip().partition("  ")
            if name == what:
                return address.strip()
        raise SystemExit("the node ended before it served")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def command(self, *arguments, stdin=None):
        subprocess.run([self.binary, "--endpoint", self.grpc, *arguments], stdin=stdin, stdout=subprocess.DEVNULL, check=True)

    def sql(self, statement):
        """The rows of a statement, as lists."""
        body = json.dumps({"sql": statement, "timeout_ms": 300_000}).encode()
        request = urllib.request.Request(f"{self.http}/v1/sql", body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error
        if "error" in said:
            raise RuntimeError(said["error"])
        names = [column["name"] for column in said["columns"]]
        return [[row.get(name) for name in names] for row in said["rows"]]


def produce(node, lines, form, time_field):
    node.command("topic", "create", "t", "--format", form, *(["--time-field", time_field] if time_field else []))
    with open(lines, "rb") as source:
        node.command("produce", "t", stdin=source)


def load(lines, form):
    """A DuckDB with the same rows in a table `t`."""
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'")
    if form == "json":
        options = "format = 'newline_delimited', sample_size = -1, maximum_object_size = 16777216"
        duck.execute(f"CREATE TABLE t AS SELECT * FROM read_json('{lines}', {options})")
    else:
        with open(lines, encoding="utf-8", newline="\n") as source:
            texts = [line.rstrip("\n").removesuffix("\r") for line in source]
        # Through one list: row by row takes minutes.
        duck.execute("CREATE TABLE t AS SELECT unnest(?::VARCHAR[]) AS message", [texts])
    return duck


def agree(node, duck, statements, where):
    """Whether both give the same rows; tells what differs."""
    ours, theirs = statements
    try:
        said, expected = node.sql(ours), duck.execute(theirs).fetchall()
    except (RuntimeError, duckdb.Error) as error:
        print(f"{where}: {ours}\n  {error}")
        return False
    said, expected = normal(said), normal(expected)
    differing = [(a, b) for a, b in zip(said, expected) if not same(a, b)]
    if len(said) == len(expected) and not differing:
        return True
    print(f"{where}: {ours}\n  {len(said)} rows, DuckDB has {len(expected)}")
    for a, b in differing[:3]:
        print(f"  {a}\n  DuckDB: {b}")
    return False


def normal(rows):
    """Rows in one order, which floats do not decide, with values in one form."""
    rows = [[value_of(value) for value in row] for row in rows]
    return sorted(rows, key=lambda row: (repr([value for value in row if not is_float(value)]), repr(row)))


def same(ours, theirs):
    """Whether two rows are equal, floats to nine digits."""
    pairs = list(zip(ours, theirs))
    close = (a == b or is_number(a) and is_number(b) and math.isclose(a, b, rel_tol=1e-9) for a, b in pairs)
    return len(ours) == len(theirs) and all(close)


def is_float(value):
    return isinstance(value, float)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def value_of(value):
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S")
    if isinstance(value, datetime.date):
        return f"{value}T00:00:00"
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value):
        return value[:-1]
    return value


if __name__ == "__main__":
    sys.exit(main())
