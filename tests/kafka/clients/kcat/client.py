"""kcat, called as people call it: one run for each record that is produced, a format string for those that are read.

It has neither timestamps nor an answer where a record went.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from interface import end_of_input, main, records, tell, tell_record

KCAT = os.environ.get("KCAT", "kcat")
# Between the parts of a record, where no length tells where one ends.
END = b"\x1e--kcat--\x1e"
FORMAT = "%p %o %T %K %S\\n%k%s%h" + "\\x1e--kcat--\\x1e"


def about(args):
    version = subprocess.run([KCAT, "-V"], capture_output=True, text=True).stdout
    library = re.search(r"librdkafka (\S+)", version)[1]
    tell(client="kcat", version=re.search(r"Version (\S+)", version)[1], library=library)


def run(*options, **more):
    done = subprocess.run([KCAT, *options], capture_output=True, **more)
    if done.returncode:
        sys.exit(f"kcat ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def produce(args):
    codec = [] if args.codec == "none" else ["-z", args.codec]
    for record in records():
        options = ["-P", "-b", args.servers, "-t", args.topic, "-p", str(record["partition"]), *codec,
                   "-X", f"enable.idempotence={str(args.idempotent).lower()}"]
        for name, value in record["headers"]:
            options += ["-H", name if value is None else f"{name}={value.decode()}"]
        if not record["value"]:
            # It sends nothing of an empty file; a line with a key and no more is a record.
            null = ["-Z"] if record["value"] is None else []
            run(*options, *null, "-K", ":", input=record["key"] + b":\n")
        else:
            key = [] if record["key"] is None else ["-k", os.fsdecode(record["key"])]
            with tempfile.NamedTemporaryFile() as file:
                file.write(record["value"])
                file.flush()
                run(*options, *key, file.name)
        tell(partition=record["partition"], offset=None)


def parse(text):
    """The records of an output in FORMAT."""
    while text:
        head, _, rest = text.partition(b"\n")
        partition, offset, timestamp, key_length, length = (int(part) for part in head.split())
        key, rest = cut(rest, key_length)
        value, rest = cut(rest, length)
        headers, _, text = rest.partition(END)
        named = [header.partition(b"=") for header in headers.split(b",") if header]
        yield partition, offset, timestamp, key, value, [
            (name.decode(), None if content == b"NULL" else content) for name, _, content in named]


def cut(rest, length):
    """The first bytes of the rest; of what is null, kcat prints a length of -1, and the word."""
    if length >= 0:
        return rest[:length], rest[length:]
    return None, rest.removeprefix(b"NULL")


def consume(args):
    start = {"beginning": "beginning"}.get(args.start) or args.start
    if args.start.startswith("time:"):
        start = "s@" + args.start[5:]
    for partition in args.partitions:
        out = run("-C", "-b", args.servers, "-t", args.topic, "-p", str(partition), "-o", start, "-e", "-q", "-f", FORMAT,
                  "-X", "fetch.wait.max.ms=100", timeout=args.timeout)
        for record in parse(out):
            if args.count > 0:
                tell_record(*record)
            args.count -= 1
    if args.count > 0:
        sys.exit(f"{args.count} records are missing")


def ask(args, partition, time):
    out = run("-Q", "-b", args.servers, "-t", f"{args.topic}:{partition}:{time}").decode()
    offset = int(re.search(r"offset (-?\d+)", out)[1])
    return offset if offset >= 0 else None


def offsets(args):
    for partition in args.partitions:
        tell(partition=partition, beginning=ask(args, partition, -2), end=ask(args, partition, -1),
             at=[ask(args, partition, ms) for ms in args.times])


def topics(args):
    out = run("-L", "-b", args.servers).decode()
    tell(topics=sorted(re.findall(r'^  topic "(.*)" with', out, re.M)))


def describe_topic(args):
    out = run("-L", "-b", args.servers, "-t", args.topic).decode()
    [(name, broken)] = re.findall(r'^  topic "(.*)" with \d+ partitions:(.*)', out, re.M)
    if broken.strip():
        sys.exit(f"the topic is not described: {broken}")
    found = re.findall(r"partition (\d+), leader (-?\d+), replicas: ([\d,]*), isrs: ([\d,]*)", out)
    numbers = lambda text: [int(number) for number in text.split(",")]
    tell(topic=name, partitions=[
        {"partition": int(p), "leader": int(leader), "replicas": numbers(replicas), "isr": numbers(isr)}
        for p, leader, replicas, isr in found])


def group(args):
    strategy = {"range": "range", "cooperative": "cooperative-sticky"}[args.assignor]
    options = ["-b", args.servers, "-f", FORMAT, "-u", "-X", f"partition.assignment.strategy={strategy}",
               "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=30000", "-X", "heartbeat.interval.ms=1000",
               "-X", "fetch.wait.max.ms=100"]
    if args.instance:
        options += ["-X", f"group.instance.id={args.instance}"]
    if args.count:
        options += ["-c", str(args.count)]
    process = subprocess.Popen([KCAT, *options, "-G", args.group, args.topic], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    held, said = set(), []

    def listen():
        for line in process.stderr:
            line = line.decode()
            said.append(line)
            change = re.search(r"rebalanced.*?\b(assign|revo)\w*.*?: (.*)", line)
            if not change:
                continue
            partitions = {int(number) for number in re.findall(r"\[(\d+)\]", change[2])}
            if change[1] == "revo":
                held.difference_update(partitions)
                tell(event="revoked", partitions=sorted(partitions))
            else:
                held.update(partitions)
                tell(event="assigned", partitions=sorted(held))

    ended = end_of_input()
    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=lambda: (ended.wait(args.timeout), process.send_signal(signal.SIGTERM)), daemon=True).start()
    count, buffer = 0, b""
    while piece := process.stdout.read1(1 << 16):
        buffer += piece
        whole, end, buffer = buffer.rpartition(END)
        for record in parse(whole + end):
            tell_record(*record, event="record")
            count += 1
    if process.wait() or count < (args.count or 0):
        sys.exit(f"kcat ended with {process.returncode} after {count} records: {''.join(said)}")


main({"about": about, "produce": produce, "consume": consume, "offsets": offsets, "topics": topics,
      "describe-topic": describe_topic, "group": group})
