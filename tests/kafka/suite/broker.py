"""What is tested: a node, a local cluster, or any broker that runs already."""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time
import tomllib

JOIN_GROUP = 11
# Where a node listens whose file does not say it: the first of a cluster, if nobody else is there.
DEFAULTS = {"kafka": "127.0.0.1:9092", "grpc": "127.0.0.1:7070"}


class Broker:
    """`servers` is where clients begin, `endpoint` where `stratalog` asks; `close` ends what was started here."""

    def __init__(self, servers, process=None, log=None, name="a broker that runs"):
        self.servers, self.process, self.log, self.name = servers, process, log, name
        self.endpoint = None

    def announced(self):
        """The newest version of each kind of request, by its key."""
        return announced(self.servers.split(",")[0])

    def has_groups(self):
        return JOIN_GROUP in self.announced()

    def is_alive(self):
        return self.process is None or self.process.poll() is None

    def close(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def single(binary, work):
    """One node with the settings that it has by itself."""
    kafka = f"127.0.0.1:{free_port()}"
    command = [binary, "serve", "--data", work / "data", "--kafka", kafka]
    ports = {listener: f"127.0.0.1:{free_port()}" for listener in ("grpc", "http", "peer")}
    for listener, address in ports.items():
        command += [f"--{listener}", address]
    broker = started(command, work, lambda: kafka, "one node")
    broker.endpoint = f"http://{ports['grpc']}"
    return broker


def cluster(binary, work, nodes):
    """Nodes of `stratalog dev`, which chooses free ports and writes them down."""
    data = work / "data"

    def listeners(of):
        configs = sorted(data.glob("node*.toml"))
        told = [tomllib.loads(config.read_text()) for config in configs]
        # The last of them may be there, and not be written yet.
        if len(told) < nodes or not all("cluster" in config for config in told):
            return None
        return [config.get(of, {}).get("listen", DEFAULTS[of]) for config in told]

    def servers():
        found = listeners("kafka")
        return found and ",".join(found)

    broker = started([binary, "dev", "--nodes", str(nodes), "--data", data], work, servers, f"{nodes} nodes")
    broker.endpoint = ",".join(f"http://{address}" for address in listeners("grpc"))
    until = time.monotonic() + 60
    while not spread(binary, broker.endpoint) and time.monotonic() < until:
        time.sleep(0.5)
    return broker


def spread(binary, endpoint):
    """Whether the nodes lead about as many shards each. A young cluster moves leaderships until they do."""
    told = subprocess.run([binary, "--endpoint", endpoint, "cluster", "status", "-o", "json"], capture_output=True, text=True)
    if told.returncode:
        return False
    leads = [node["leads"] for node in json.loads(told.stdout)["nodes"]]
    return max(leads) - min(leads) <= 1


def apache(java, work):
    """Apache Kafka, as one node; its topics have as many partitions as ours."""
    kafka, controller = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    settings = work / "server.properties"
    settings.write_text(f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners=PLAINTEXT://{kafka},CONTROLLER://{controller}
controller.listener.names=CONTROLLER
log.dirs={work}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.partitions=4
group.initial.rebalance.delay.ms=500
""")
    formatted = subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", settings],
                               capture_output=True, text=True)
    if formatted.returncode:
        raise SystemExit(f"Apache Kafka does not format its storage:\n{formatted.stdout}{formatted.stderr}")
    return started([*java, "kafka.Kafka", settings], work, lambda: kafka, "Apache Kafka")


def started(command, work, servers, name):
    log = work / "broker.log"
    with log.open("wb") as out:
        # A group of its own: whoever interrupts this interrupts the clients first.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                   env={**os.environ, "STRATALOG_LOG__LEVEL": "info"})
    broker = Broker(None, process, log, name)
    until = time.monotonic() + 180
    while time.monotonic() < until and broker.is_alive():
        if found := servers():
            broker.servers = found
            try:
                if all(leads(server) for server in found.split(",")):
                    return broker
            except OSError:
                pass
        time.sleep(0.3)
    broker.close()
    raise SystemExit(f"{' '.join(map(str, command))} does not answer:\n{log.read_text(errors='replace')[-4000:]}")


def leads(server):
    return bool(announced(server))


def announced(server):
    """Asks ApiVersions of version 0, without any client."""
    host, port = server.rsplit(":", 1)
    request = struct.pack(">hhih6s", 18, 0, 1, 6, b"matrix")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = receive(connection, struct.unpack(">i", receive(connection, 4))[0])
    _, error, count = struct.unpack_from(">ihi", answer)
    if error:
        raise OSError(f"ApiVersions is answered with error {error}")
    triples = (struct.unpack_from(">hhh", answer, 10 + 6 * at) for at in range(count))
    return {key: newest for key, _, newest in triples}


def receive(connection, count):
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise OSError("the connection ended")
        received += piece
    return received


def given(servers):
    return Broker(servers)


def binary_of(root):
    path = pathlib.Path(os.environ.get("STRATALOG", root / "target/debug/stratalog")).resolve()
    if not os.access(path, os.X_OK):
        raise SystemExit(f"there is no binary {path}: cargo build, or name one with STRATALOG=…")
    return path
