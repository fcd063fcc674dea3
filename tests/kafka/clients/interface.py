"""What the clients in Python have in common: the commands of README.md, records as lines of JSON, and the end of standard input."""

import argparse
import base64
import json
import sys
import threading


def decode(text):
    return None if text is None else base64.b64decode(text)


def encode(data):
    return None if data is None else base64.b64encode(data).decode()


def tell(**line):
    """Prints a line of JSON, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def records():
    """The records on standard input, decoded."""
    for line in sys.stdin:
        record = json.loads(line)
        record["key"], record["value"] = decode(record["key"]), decode(record["value"])
        record["headers"] = [(name, decode(value)) for name, value in record["headers"]]
        yield record


def tell_record(partition, offset, timestamp, key, value, headers, **more):
    headers = [[name, encode(content)] for name, content in headers or []]
    tell(partition=partition, offset=offset, timestamp=timestamp, key=encode(key), value=encode(value), headers=headers, **more)


def end_of_input():
    """An event that is set when standard input ends."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    return ended


def numbers(text):
    return [int(number) for number in text.split(",")] if text else []


def settings(text):
    return dict(setting.split("=", 1) for setting in text.split(",")) if text else {}


def main(commands):
    """Runs the command of the command line, one of `commands`: functions by name, each of which takes the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=sorted(commands))
    for name in ("servers", "topic", "codec", "from", "group", "assignor", "instance"):
        parser.add_argument(f"--{name}")
    for name in ("count", "seek", "partition", "before"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--idempotent", type=lambda text: text == "true")
    parser.add_argument("--partitions", type=numbers)
    parser.add_argument("--times", type=numbers, default=[])
    parser.add_argument("--configs", type=settings, default={})
    args = parser.parse_args()
    args.start = getattr(args, "from")
    commands[args.command](args)
