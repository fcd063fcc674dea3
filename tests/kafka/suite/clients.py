"""The clients: where they come from, how they are installed, what they have, and running one."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
INTO = ROOT / "target/kafka"
SOURCES = HERE / "clients"

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# With what is needed to compress in each codec. Nothing else pins versions.
PYTHON_PACKAGES = ("aiokafka==0.14.0", "confluent-kafka==2.16.1", "cramjam==2.14.0", "kafka-python==3.0.12", "lz4==4.4.5",
                   "python-snappy==0.7.3", "zstandard==0.25.0")
JAVA_VERSIONS = ("3.9.2", "4.4.0")
# What is done in a second on an idle machine takes minutes on a busy one.
PATIENCE = 150


class Missing(Exception):
    """Something that a client needs is not on this machine."""


class Failed(Exception):
    """A client failed, or did another thing than it had to."""


@dataclasses.dataclass
class Client:
    name: str
    install: object
    command: list
    codecs: tuple = CODECS
    # What it does not have, with why.
    lacks: dict = dataclasses.field(default_factory=dict)
    about: dict = None

    def has(self, what):
        return what not in self.lacks

    def run(self, command, stdin="", **args):
        """Runs a command to its end, and returns its lines.

        Raises Failed with all that it said if it does not end well.
        """
        args.setdefault("timeout", PATIENCE)
        words = self.words(command, args)
        limit = args["timeout"] + 30
        try:
            done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=limit, encoding="utf-8")
        except subprocess.TimeoutExpired as slow:
            said = (slow.stderr or b"").decode(errors="replace")
            raise Failed(f"{shown(words)}\ndid not end within {limit:.0f} s\n{said[-3000:]}") from None
        if done.returncode:
            raise Failed(f"{shown(words)}\nended with {done.returncode}\n{done.stdout[-300:]}\n{done.stderr[-3000:]}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def start(self, command, **args):
        return Running(self, self.words(command, args))

    def words(self, command, args):
        words = [str(word) for word in self.command] + [command]
        for name, value in args.items():
            if value is not None:
                words += ["--" + ("from" if name == "start" else name), text(value)]
        return words


def text(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}={setting}" for name, setting in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def shown(words):
    return "$ " + " ".join(words)


class Running:
    """A client that goes on until its input ends."""

    def __init__(self, client, words):
        self.client, self.words = client, words
        self.lines, self.said = [], []
        self.queue = queue.Queue()
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        encoding="utf-8")
        self.threads = [threading.Thread(target=self.listen, daemon=True), threading.Thread(target=self.heed, daemon=True)]
        for thread in self.threads:
            thread.start()

    def listen(self):
        for line in self.process.stdout:
            self.queue.put(json.loads(line))
        self.queue.put(None)

    def heed(self):
        for line in self.process.stderr:
            self.said.append(line)

    def until(self, what, timeout, fits):
        """Takes lines until `fits` says that those that came are what was waited for."""
        end = time.monotonic() + timeout
        while not fits(self.lines):
            try:
                line = self.queue.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise self.failure(f"after {timeout:.0f} s there is not: {what}") from None
            if line is None:
                self.process.wait()
                raise self.failure(f"it ended with {self.process.returncode}, without: {what}")
            self.lines.append(line)

    def drain(self):
        while True:
            try:
                line = self.queue.get_nowait()
            except queue.Empty:
                return
            if line is not None:
                self.lines.append(line)

    def finish(self, timeout=40):
        """Ends its input, and waits for its end."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.wait(timeout)

    def wait(self, timeout):
        """Waits until it ends by itself."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure(f"it does not end within {timeout} s") from None
        for thread in self.threads:
            thread.join(10)
        self.drain()
        if self.process.returncode:
            raise self.failure(f"it ended with {self.process.returncode}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def failure(self, why):
        self.drain()
        changes = [line for line in self.lines if line.get("event") in ("assigned", "revoked")]
        count = sum(line.get("event") == "record" for line in self.lines)
        said = "".join(self.said)[-3000:]
        return Failed(f"{shown(self.words)}\n{why}\n{count} records, assignments {changes}\n{said}")

    def records(self):
        return [line for line in self.lines if line.get("event") == "record"]

    def assigned(self):
        """What it holds now; None before anything was assigned to it."""
        held = None
        for line in self.lines:
            if line.get("event") == "assigned":
                held = set(line["partitions"])
            elif line.get("event") == "revoked" and held is not None:
                held -= set(line["partitions"])
        return held


@contextlib.contextmanager
def alone():
    """Nobody else installs meanwhile."""
    INTO.mkdir(parents=True, exist_ok=True)
    with (INTO / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"there is no {program}")


def build(words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    if done.returncode:
        raise Failed(f"{shown([str(word) for word in words])}\nended with {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")


def is_current(stamp, wanted):
    """Whether what was built is what would be built now."""
    return stamp.exists() and stamp.read_text() == wanted


def contents(folder):
    return "".join(file.read_text() for file in sorted(folder.rglob("*")) if file.is_file())


def python():
    need("python3")
    venv, stamp, wanted = INTO / "venv", INTO / "venv/packages", "\n".join(PYTHON_PACKAGES)
    if not is_current(stamp, wanted):
        build(["python3", "-m", "venv", "--clear", venv])
        build([venv / "bin/pip", "install", "--quiet", *PYTHON_PACKAGES])
        stamp.write_text(wanted)


def kcat():
    need("kcat")


def kafkajs():
    need("node", "npm")
    folder, stamp, wanted = INTO / "kafkajs", INTO / "kafkajs/installed", contents(SOURCES / "kafkajs")
    if not is_current(stamp, wanted):
        shutil.copytree(SOURCES / "kafkajs", folder, dirs_exist_ok=True)
        build(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
        stamp.write_text(wanted)


def java(version):
    def install():
        need("java", "mvn")
        folder, stamp = INTO / f"java-{version}", INTO / f"java-{version}/built"
        wanted = contents(SOURCES / "java")
        if not is_current(stamp, wanted):
            build(["mvn", "-q", "-B", "compile", f"-Dkafka.version={version}", f"-Dout={folder}"], cwd=SOURCES / "java")
            stamp.write_text(wanted)
    return install


def go(name):
    def install():
        need("go")
        build(["go", "build", "-o", INTO / name / "client", "."], cwd=SOURCES / name)
    return install


def rust():
    need("cargo", "cc", "make")
    # Where many share a machine, builds take turns.
    turns = os.environ.get("KAFKA_BUILD_WITH", "").split()
    build([*turns, "cargo", "build", "--release", "--locked", "--quiet", "--target-dir", INTO / "rdkafka"], cwd=SOURCES / "rdkafka",
          env={**os.environ, "CARGO_INCREMENTAL": "0"})


def apache():
    """Apache Kafka itself, to see what it answers."""
    need("java", "mvn")
    folder, stamp, wanted = INTO / "apache", INTO / "apache/copied", contents(HERE / "apache")
    if not is_current(stamp, wanted):
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
        build(["mvn", "-q", "-B", f"{plugin}:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"],
              cwd=HERE / "apache")
        stamp.write_text(wanted)
    return ["java", "-Xmx1g", "-cp", f"{folder}/*"]


def python_client(name, **more):
    return Client(name, python, [INTO / "venv/bin/python", SOURCES / name / "client.py"], **more)


def java_client(version):
    folder = INTO / f"java-{version}"
    return Client(f"java {version[0]}", java(version), [
        "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp", f"{folder}/classes:{folder}/libraries/*", "Client"])


def all_clients():
    no_cooperative = "its groups rebalance eagerly only"
    return [
        Client("kcat", kcat, ["python3", SOURCES / "kcat/client.py"], lacks={
            "timestamps": "it gives records the time of now", "seek": "it reads on from where it began",
            "binary headers": "they come from the command line, and are shown up to their first null",
            "empty keys": "they come from the command line", "neither key nor value": "it sends no empty line",
            "committed": "it shows no offsets of groups", "create-topic": "it changes no topics", "describe-configs": "it shows none",
            "delete-records": "it deletes none", "groups": "it shows none"}),
        python_client("confluent-kafka"),
        java_client(JAVA_VERSIONS[0]),
        java_client(JAVA_VERSIONS[1]),
        python_client("aiokafka", lacks={
            "neither key nor value": "it wants one of them", "cooperative": no_cooperative,
            "delete-group": "its admin client deletes none"}),
        python_client("kafka-python", lacks={
            "null headers": "it takes bytes only", "neither key nor value": "it wants one of them"}),
        Client("kafkajs", kafkajs, ["node", INTO / "kafkajs/client.js"], lacks={
            "header order": "its headers are an object", "null headers": "it takes text and bytes only", "cooperative": no_cooperative, "no offset of a time": "it gives the end instead",
            "static": "it has no static members"}),
        Client("sarama", go("sarama"), [INTO / "sarama/client"], lacks={"cooperative": no_cooperative}),
        Client("franz-go", go("franz-go"), [INTO / "franz-go/client"], lacks={"no offset of a time": "it gives the end instead"}),
        Client("rdkafka", rust, [INTO / "rdkafka/release/client"], lacks={"groups": "its admin client shows none"}),
    ]
