"""Running one of Kafka's tools, and what came of all of them."""

import json
import pathlib
import re
import shlex
import signal
import subprocess
import tempfile
import time

from suite.broker import announced
from suite.clients import Failed, HERE

PACKAGE = "org.apache.kafka.tools."
TOOLS = {
    "kafka-topics": PACKAGE + "TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-producer": PACKAGE + "ConsoleProducer",
    "kafka-console-consumer": PACKAGE + "consumer.ConsoleConsumer",
    "kafka-console-share-consumer": PACKAGE + "consumer.ConsoleShareConsumer",
    "kafka-consumer-groups": PACKAGE + "consumer.group.ConsumerGroupCommand",
    "kafka-share-groups": PACKAGE + "consumer.group.ShareGroupCommand",
    "kafka-streams-groups": PACKAGE + "streams.StreamsGroupCommand",
    "kafka-streams-application-reset": PACKAGE + "StreamsResetter",
    "kafka-groups": PACKAGE + "GroupsCommand",
    "kafka-get-offsets": PACKAGE + "GetOffsetShell",
    "kafka-delete-records": PACKAGE + "DeleteRecordsCommand",
    "kafka-leader-election": PACKAGE + "LeaderElectionCommand",
    "kafka-reassign-partitions": PACKAGE + "reassign.ReassignPartitionsCommand",
    "kafka-log-dirs": PACKAGE + "LogDirsCommand",
    "kafka-producer-perf-test": PACKAGE + "ProducerPerformance",
    "kafka-consumer-perf-test": PACKAGE + "ConsumerPerformance",
    "kafka-e2e-latency": PACKAGE + "EndToEndLatency",
    "kafka-verifiable-producer": PACKAGE + "VerifiableProducer",
    "kafka-verifiable-consumer": PACKAGE + "VerifiableConsumer",
    "kafka-replica-verification": PACKAGE + "ReplicaVerificationTool",
    "kafka-broker-api-versions": PACKAGE + "BrokerApiVersionsCommand",
    "client-compatibility-test": PACKAGE + "ClientCompatibilityTest",
    "kafka-cluster": PACKAGE + "ClusterTool",
    "kafka-features": PACKAGE + "FeatureCommand",
    "kafka-metadata-quorum": PACKAGE + "MetadataQuorumCommand",
    "kafka-transactions": PACKAGE + "TransactionsCommand",
    "kafka-acls": PACKAGE + "AclCommand",
    "kafka-delegation-tokens": PACKAGE + "DelegationTokenCommand",
    "kafka-client-metrics": PACKAGE + "ClientMetricsCommand",
}
# A virtual machine for each command: it shall start fast, not run fast.
FAST = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={HERE}/apache/log4j2.properties")
PATIENCE = 120
OK, DIFFERS, FAILED = "ok", "differs", "FAIL"


class Kafka:
    """A broker, and what the tools did there."""

    def __init__(self, java, servers, is_ours, work):
        self.java, self.servers, self.is_ours, self.work = [java[0], *FAST, *java[1:]], servers, is_ours, work
        self.rows, self.failures, self.running = [], [], []
        self.tag = f"t{int(time.time())}"
        self.kinds = announced(servers.split(",")[0])
        self.nodes = len(
            set(re.findall(r"^\S+ \(id: (\d+) ", self.said("kafka-broker-api-versions", f"--bootstrap-server {servers}"), re.M))
        )
        self.replicas = min(3, self.nodes)

    def words(self, tool, args):
        return [*map(str, self.java), TOOLS[tool], *shlex.split(args)]

    def said(self, tool, args, stdin="", patience=PATIENCE):
        """All that a tool says, whatever it thinks of it."""
        return self.ran(tool, args, stdin, patience)[1]

    def ran(self, tool, args, stdin, patience):
        try:
            done = subprocess.run(
                self.words(tool, args),
                input=stdin,
                text=True,
                encoding="utf-8",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=patience,
                cwd=self.work,
            )
            return done.returncode, done.stdout
        except subprocess.TimeoutExpired as slow:
            return None, f"{(slow.stdout or b'').decode(errors='replace')}\nit did not end within {patience} s"

    def start(self, tool, args):
        """A tool that goes on until `close`, or until it is told to stop."""
        self.running.append(Running(tool, args, self.words(tool, args), self.work))
        return self.running[-1]

    def file(self, name, content):
        path = self.work / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def name(self, of):
        return f"{self.tag}-{of}"

    def topic(self, of, partitions=1, records=0):
        """A topic, made without being looked at, with records `k0:v0`, … shared out by their keys."""
        name = self.name(of)
        said = self.said(
            "kafka-topics",
            f"--bootstrap-server {self.servers} --create --topic {name} --partitions {partitions} " f"--replication-factor {self.replicas}",
        )
        if "Created topic" not in said:
            raise Failed(f"there is no topic to work with:\n{said}")
        if records:
            lines = "".join(f"k{n}:v{n}\n" for n in range(records))
            said = self.said(
                "kafka-console-producer",
                f"--bootstrap-server {self.servers} --topic {name} --reader-property parse.key=true " "--reader-property key.separator=:",
                lines,
            )
            if "ERROR" in said:
                raise Failed(f"there are no records to work with:\n{said}")
        return name

    def tool(self, name, connect="--bootstrap-server {servers} "):
        return Tool(self, name, connect.format(servers=self.servers))

    def mark(self, tool, what, outcome, why=""):
        self.rows.append((tool, what, outcome, why))
        print(f"   {tool:32} {what:56} {outcome}", flush=True)

    def fail(self, tool, what, why):
        self.mark(tool, what, FAILED)
        self.failures.append((tool, what, why))

    def close(self):
        for each in self.running:
            each.stop()

    def show(self):
        """The differences and the failures; the rows were told as they came."""
        counts = {outcome: sum(row[2] == outcome for row in self.rows) for outcome in (OK, DIFFERS, FAILED)}
        tools = {row[0] for row in self.rows}
        print(f"\n{len(tools)} tools, {len(self.rows)} commands: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        for tool, what, outcome, why in self.rows:
            if outcome == DIFFERS:
                print(f"differs: {tool}, {what}: {why}")
        for tool, what, why in self.failures:
            print(f"\n== {tool}, {what}\n{why}")


class Tool:
    def __init__(self, kafka, name, connect):
        self.kafka, self.name, self.connect = kafka, name, connect

    def __call__(self, what, args, says=(), lacks=(), code=0, stdin="", check=None, ours=None, why=None, patience=PATIENCE):
        """Runs a command: it has to end with `code`, say all of `says` and nothing of `lacks` (both regular expressions), and satisfy `check`.

        Where Stratalog does another thing, `ours` says which of these are others there, and `why`.
        """
        wanted = {"says": says, "lacks": lacks, "code": code, "check": check}
        outcome = OK
        if ours is not None and self.kafka.is_ours:
            wanted, outcome = wanted | {"check": None} | ours, DIFFERS
        got, said = self.kafka.ran(self.name, self.connect + args, stdin, patience)
        complaint = complaint_of(got, said, wanted)
        if complaint:
            self.kafka.fail(self.name, what, f"$ {self.name}.sh {self.connect}{args}\n{complaint}\n{said[-3000:]}")
        else:
            self.kafka.mark(self.name, what, outcome, why)
        return said


def complaint_of(got, said, wanted):
    if got != wanted["code"]:
        return f"it ended with {got}, not {wanted['code']}"
    for pattern in listed(wanted["says"]):
        if not re.search(pattern, said, re.M):
            return f"it does not say {pattern!r}"
    for pattern in listed(wanted["lacks"]):
        if re.search(pattern, said, re.M):
            return f"it says {pattern!r}"
    return wanted["check"](said) if wanted["check"] else None


def listed(patterns):
    return [patterns] if isinstance(patterns, str) else patterns


class Running:
    def __init__(self, tool, args, words, work):
        self.tool, self.args = tool, args
        self.out = tempfile.NamedTemporaryFile(dir=work, prefix=tool, delete=False)
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT)

    def said(self):
        return pathlib.Path(self.out.name).read_text(errors="replace")

    def until(self, pattern, patience=60):
        end = time.monotonic() + patience
        while not re.search(pattern, self.said(), re.M):
            if time.monotonic() > end or self.process.poll() is not None:
                raise Failed(f"$ {self.tool}.sh {self.args}\ndoes not say {pattern!r}\n{self.said()[-3000:]}")
            time.sleep(0.2)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.said()
