"""The records: every shape that has tripped a client or a broker."""

import base64
import random
import time

SMALL = 60
LARGE_BYTES = 900 * 1000
MINUTE_MS = 60_000


def encode(data):
    return None if data is None else base64.b64encode(data).decode()


def record(partition, key, value, *headers):
    return {"partition": partition, "key": encode(key), "value": encode(value),
            "headers": [[name, encode(content)] for name, content in headers]}


def corpus(client, name, partition):
    """What `client` produces to a partition: as much of everything as it can say."""
    rng = random.Random(f"{client.name} {name}")
    null = None if client.has("null headers") else b""
    headers = [("a", b"1"), ("trace", b"0af7651916cd43dd"), ("empty", b""), ("null", null)]
    if client.has("binary headers"):
        headers += [("binary", bytes(range(256))), ("ключ", "значение".encode())]
    if client.has("header order"):
        headers += [("a", b"2")]
    records = [
        record(partition, b"key", b'{"n": 1, "message": "first"}'),
        record(partition, None, b"no key"),
        record(partition, b"tombstone", None),
        record(partition, b"empty value", b""),
        record(partition, b"headers", b"with headers", *headers),
        record(partition, "ключ".encode(), "значение ✓".encode()),
        record(partition, b"binary", bytes(range(256)) * 4),
    ]
    if client.has("empty keys"):
        records.append(record(partition, b"", b"empty key"))
    if client.has("neither key nor value"):
        records.append(record(partition, None, None, ("only", b"a header")))
    for n in range(SMALL):
        filling = rng.choice(("GET /index.html", "connection reset by peer", "user logged in")) * rng.randint(1, 12)
        records.append(record(partition, f"k{n % 7}".encode(), f'{{"n": {n}, "message": "{filling}"}}'.encode()))
    records.append(record(partition, b"incompressible", rng.randbytes(LARGE_BYTES)))
    records.append(record(partition, b"compressible", b"0123456789abcdef" * (LARGE_BYTES // 16)))
    records.append(record(partition, b"last", b"after the large ones"))
    give_times(records, rng)
    return records


def give_times(records, rng):
    """Ten minutes of an hour ago, mostly in order: clocks of producers differ."""
    began = int(time.time() * 1000) - 60 * MINUTE_MS
    for n, each in enumerate(records):
        each["timestamp"] = began + n * 8_000 + (rng.randint(-20_000, 0) if n % 9 == 4 else 0)


def first_at(records, ms):
    """The offset of the first record that is not before a time; None if there is none."""
    return next((offset for offset, each in enumerate(records) if each["timestamp"] >= ms), None)


def difference(client, expected, came, times):
    """How what `client` consumed differs from what was produced; None if it does not. `times`: whether those were given."""
    if len(expected) != len(came):
        return f"{len(came)} records came instead of {len(expected)}"
    for at, (one, other) in enumerate(zip(expected, came)):
        for field in ("offset", "partition", "key", "value", "timestamp", "headers"):
            if field == "timestamp" and not times:
                continue
            wanted, found = one[field], other[field]
            if field == "headers" and not client.has("binary headers"):
                wanted = [[name, up_to_null(value)] for name, value in wanted]
            if field == "headers" and not client.has("header order"):
                wanted, found = sorted(wanted, key=repr), sorted(found, key=repr)
            if wanted != found:
                return f"record {at}: {field} is {short(found)}, and was produced as {short(wanted)}"
    return None


def up_to_null(value):
    return encode(base64.b64decode(value).split(b"\0")[0]) if value else value


def short(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:120]}… ({len(text)} characters)"
