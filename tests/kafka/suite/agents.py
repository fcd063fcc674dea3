"""The agents: where they come from, how they are run, and what has to be found of what they wrote."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import string
import subprocess
import time

from .broker import free_port
from .clients import HERE, INTO, Failed, apache, build, contents, is_current, need

CONFIGS = HERE / "agent"
RECORDS = 50
PATIENCE = 60
# What is looked for stands in one record only.
NEEDLE = "needle37"


class Place:
    """A node, and a folder for an agent's configuration and what it says."""

    def __init__(self, broker, binary, folder):
        self.servers, self.endpoint, self.binary, self.folder = broker.servers, broker.endpoint, binary, folder
        self.port = free_port()
        folder.mkdir()

    def config(self, name, topic, **more):
        path = self.folder / name
        quoted = ", ".join(json.dumps(server) for server in self.servers.split(","))
        values = {"servers": self.servers, "quoted": quoted, "topic": topic, "port": self.port, "folder": self.folder, **more}
        path.write_text(string.Template((CONFIGS / name).read_text()).substitute(values))
        return path

    @contextlib.contextmanager
    def running(self, words, **more):
        """An agent, until the end of the block; it has to be alive then."""
        with (self.folder / "said").open("ab") as out:
            process = self.process = subprocess.Popen(
                [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, **more
            )
        try:
            yield process
            if process.poll() is not None:
                raise Failed(f"it ended with {process.returncode}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def said(self):
        return "".join(
            f"-- {path.name}\n{path.read_text(errors='replace')[-2000:]}\n"
            for path in sorted(self.folder.glob("*"))
            if path.is_file() and (path.name == "said" or path.suffix == ".log")
        )

    def asked(self, *words):
        done = subprocess.run([str(self.binary), "--endpoint", self.endpoint, *words, "-o", "json"], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"stratalog {' '.join(words)}\n{done.stderr}")
        return json.loads(done.stdout)

    def lines(self, lines):
        """Sends lines to the port that the agent listens on."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as agent:
                    agent.sendall("".join(line + "\n" for line in lines).encode())
                return
            except OSError as why:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise Failed(f"the agent does not listen: {why}") from None
                time.sleep(0.3)

    def arrives(self, topic, count):
        """Waits for so many rows, and that none of them is a dead letter."""
        until, rows = time.monotonic() + PATIENCE, None
        while time.monotonic() < until:
            try:
                [row] = self.asked("sql", f'SELECT count(*) AS n FROM "{topic}"')
                rows = row["n"]
                if rows >= count:
                    break
            except Failed as why:
                rows = why
            time.sleep(0.5)
        else:
            raise Failed(f"there are {rows} rows of {count} after {PATIENCE} s")
        if dead := self.asked("dead-letters", "list", topic):
            raise Failed(f"there are dead letters: {dead}")
        return rows

    def has(self, topic, query, sql, wanted):
        """One record is found by its words, and by SQL with these columns."""
        hits = self.asked("search", topic, query)
        if len(hits) != 1:
            raise Failed(f"search {query!r} finds {len(hits)} records: {str(hits)[:500]}")
        rows = self.asked("sql", sql)
        if rows != [wanted]:
            raise Failed(f"{sql}\nis {str(rows)[:500]}, not {wanted}")


@dataclasses.dataclass
class Agent:
    name: str
    # Installs it, and says which it is.
    install: object
    # Runs it, and says how many rows were found.
    look: object


def debian(package, name):
    """Packages of Debian that are not on this machine, unpacked beside it and not installed: nothing of theirs starts."""
    need("apt-get", "dpkg-deb")
    root, stamp = INTO / "debian" / name, INTO / "debian" / name / "unpacked"
    if not stamp.exists():
        told = subprocess.run(
            ["apt-get", "install", "--print-uris", "-qq", "-y", "--no-install-recommends", package], capture_output=True, text=True
        )
        files = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("'")]
        if told.returncode or not files:
            raise Failed(f"apt-get knows no {package}, or it is installed\n{told.stderr}")
        root.mkdir(parents=True, exist_ok=True)
        for file in files:
            package_name, version, _ = file.split("_")
            build(["apt-get", "download", f"{package_name}={version.replace('%3a', ':')}"], cwd=root)
        for file in root.glob("*.deb"):
            build(["dpkg-deb", "-x", file, root])
        stamp.write_text(" ".join(files))
    return root


def of_debian(root):
    return {**os.environ, "LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu:{root}/usr/lib/syslog-ng"}


def version_of(root, package):
    return "Debian's " + next(file for file in (root / "unpacked").read_text().split() if file.startswith(package + "_")).removesuffix(
        ".deb"
    )


def syslog_lines():
    """Of RFC 5424, each with a number of its own."""
    return [
        f'<{134 if n % 2 else 131}>1 2026-11-22T18:00:{n:02}.123Z web{n % 3} shop 17 - - order needle{n} took "{n}" ms, caf\u00e9'
        for n in range(RECORDS)
    ]


SYSLOG_COLUMNS = {"host": "web1", "severity": "info", "program": "shop"}


def found_as_syslog(place, topic, message):
    rows = place.arrives(topic, RECORDS)
    place.has(
        topic,
        NEEDLE,
        f"""SELECT host, severity, program, message FROM "{topic}" WHERE message LIKE '%needle37 %'""",
        SYSLOG_COLUMNS | {"message": message},
    )
    return rows


def rsyslog(place):
    root = debian("rsyslog-kafka", "rsyslog")
    config = place.config("rsyslog.conf", "rsyslog")
    modules = f"{root}/usr/lib/x86_64-linux-gnu/rsyslog"
    with place.running(
        [root / "usr/sbin/rsyslogd", "-n", "-C", "-f", config, "-i", place.folder / "pid", "-M", modules], env=of_debian(root)
    ):
        place.lines(syslog_lines())
        return found_as_syslog(place, "rsyslog", 'order needle37 took "37" ms, caf\u00e9')


def syslog_ng(place):
    root = debian("syslog-ng-mod-rdkafka", "syslog-ng")
    config = place.config("syslog-ng.conf", "syslog-ng")
    words = [root / "usr/sbin/syslog-ng", "-F", "--no-caps", "-f", config, f"--module-path={root}/usr/lib/syslog-ng/3.38"]
    words += [f"--{what}={place.folder}/{what}" for what in ("pidfile", "persist-file", "control")]
    with place.running(words, env=of_debian(root)):
        place.lines(syslog_lines())
        return found_as_syslog(place, "syslog-ng", 'order needle37 took "37" ms, caf\u00e9')


def collectd(place):
    root = debian("collectd-core", "collectd")
    config = place.config("collectd.conf", "collectd", root=root)
    # Its JSON, an array of one object for each metric, needs no topic of its own kind.
    place.asked(
        "topic",
        "create",
        "collectd",
        "--format",
        "text",
        "--pattern",
        r"^(?<metric>\S+) %{NUMBER:value:float} (?<at>\d+)",
        "--time-field",
        "at",
    )
    with place.running([root / "usr/sbin/collectd", "-f", "-C", config], env=of_debian(root)):
        rows = place.arrives("collectd", 20) + place.arrives("collectd-json", 20)
    [json_row] = place.asked(
        "sql",
        """SELECT host, plugin, CAST(json_get("values", 0) AS DOUBLE) > 0 AS is_used FROM "collectd-json"
        WHERE type_instance = 'used' LIMIT 1""",
    )
    if json_row != {"host": "needle", "plugin": "memory", "is_used": True}:
        raise Failed(f"the memory that is used is told in JSON as {json_row}")
    # Of each second there is one such line.
    [row] = place.asked(
        "sql",
        "SELECT metric, max(value) > 0 AS is_used, max(_time) > now() - interval '5 minutes' AS is_new FROM collectd "
        "WHERE metric LIKE '%memory-used' GROUP BY 1",
    )
    if row != {"metric": "needle.memory.memory-used", "is_used": True, "is_new": True} or not place.asked(
        "search", "collectd", "needle AND shortterm"
    ):
        raise Failed(f"the memory that is used is told as {row}, or the load is not found")
    return rows


def write_lines(place):
    """A file of JSON objects, one a line, where the agent looks for it; returns the lines."""
    lines = [
        json.dumps({"n": n, "host": f"web{n % 3}", "message": f"order needle{n} took {n} ms, caf\u00e9"}, ensure_ascii=False)
        for n in range(RECORDS)
    ]
    (place.folder / "lines.ndjson").write_text("".join(line + "\n" for line in lines))
    return lines


def connect(place):
    topic = "connect"
    lines = write_lines(place)
    configs = [place.config(f"connect-{name}.properties", topic) for name in ("worker", "source", "sink")]
    java, *options = apache()
    logging = f"-Dlog4j2.configurationFile={HERE}/apache/log4j2.properties"
    with place.running([java, logging, *options, "org.apache.kafka.connect.cli.ConnectStandalone", *configs]):
        rows = place.arrives(topic, RECORDS)
        place.has(
            topic,
            NEEDLE,
            f"SELECT n, host, message FROM {topic} WHERE n = 37",
            {"n": 37, "host": "web1", "message": "order needle37 took 37 ms, caf\u00e9"},
        )
        copied(place, lines)
        return rows


def copied(place, lines):
    """What the sink wrote of the topic is what the source read."""
    copy, until = place.folder / "copy.ndjson", time.monotonic() + PATIENCE
    while not copy.exists() or len(copy.read_text().splitlines()) < len(lines):
        if time.monotonic() > until:
            raise Failed("the sink did not write what the source read")
        time.sleep(0.5)
    if sorted(copy.read_text().splitlines()) != sorted(lines):
        raise Failed("the sink wrote another thing than the source read")


def go_module(path):
    """Where a module of Go's proxy is unpacked."""
    need("go")
    told = subprocess.run(["go", "mod", "download", "-json", path], cwd="/", capture_output=True, text=True)
    if told.returncode:
        raise Failed(told.stdout + told.stderr)
    return pathlib.Path(json.loads(told.stdout)["Dir"])


def turns():
    """Where many share a machine, builds take turns."""
    return os.environ.get("KAFKA_BUILD_WITH", "").split()


TELEGRAF = "v1.37.2"
# Those of its plugins that are used: all of them take an hour.
TELEGRAF_PLUGINS = "custom,inputs.socket_listener,outputs.kafka,parsers.json,serializers.json"


def install_telegraf():
    source, stamp = go_module(f"github.com/influxdata/telegraf@{TELEGRAF}"), INTO / "telegraf/built"
    if not is_current(stamp, TELEGRAF):
        build([*turns(), "go", "build", "-tags", TELEGRAF_PLUGINS, "-o", INTO / "telegraf/telegraf", "./cmd/telegraf"], cwd=source)
        stamp.write_text(TELEGRAF)
    return f"{TELEGRAF}, from Go's proxy"


def telegraf(place):
    topic = "telegraf"
    with place.running([INTO / "telegraf/telegraf", "--config", place.config("telegraf.conf", topic)]):
        place.lines(json.dumps({"n": n, "message": f"order needle{n} took {n} ms, caf\u00e9"}) for n in range(RECORDS))
        rows = place.arrives(topic, RECORDS)
        place.has(
            topic,
            NEEDLE,
            f"""SELECT name, "fields.n" AS n, "fields.message" AS message, "tags.host" AS host FROM {topic} WHERE "fields.n" = 37""",
            {"name": "lines", "n": 37.0, "message": "order needle37 took 37 ms, caf\u00e9", "host": "needle"},
        )
        return rows


OTELCOL = "v0.152.0"


def install_otelcol():
    need("go")
    folder, stamp, wanted = INTO / "otelcol", INTO / "otelcol/built", (CONFIGS / "otelcol-builder.yaml").read_text()
    if not is_current(stamp, wanted):
        folder.mkdir(parents=True, exist_ok=True)
        config = folder.parent / "otelcol-builder.yaml"
        config.write_text(string.Template(wanted).substitute(into=folder))
        builder = f"go.opentelemetry.io/collector/cmd/builder@{OTELCOL}"
        build(["go", "run", builder, "--config", config, "--skip-get-modules", "--skip-compilation"], cwd=INTO)
        # Only what it is made of: the builder wants what its parts are tested with, too, of which not all is to be had.
        build([*turns(), "go", "build", "-mod=mod", "-o", folder / "otelcol", "."], cwd=folder)
        stamp.write_text(wanted)
    return f"{OTELCOL}, made by its builder from Go's proxy"


def otelcol(place):
    topic = "otelcol"
    lines = write_lines(place)
    with place.running([INTO / "otelcol/otelcol", "--config", f"file:{place.config('otelcol.yaml', topic)}"]):
        rows = place.arrives(topic, RECORDS)
        place.has(
            topic,
            NEEDLE,
            f"SELECT n, host, message FROM {topic} WHERE n = 37",
            {"n": 37, "host": "web1", "message": "order needle37 took 37 ms, caf\u00e9"},
        )
        return rows


AGENTS = [
    Agent("rsyslog", lambda: version_of(debian("rsyslog-kafka", "rsyslog"), "rsyslog-kafka"), rsyslog),
    Agent("syslog-ng", lambda: version_of(debian("syslog-ng-mod-rdkafka", "syslog-ng"), "syslog-ng-mod-rdkafka"), syslog_ng),
    Agent("collectd", lambda: version_of(debian("collectd-core", "collectd"), "collectd-core"), collectd),
    Agent("kafka-connect", lambda: apache() and "file source and sink of 4.3.1", connect),
    Agent("telegraf", install_telegraf, telegraf),
    Agent("otelcol", install_otelcol, otelcol),
]
# What cannot be installed from the registries that the suite uses, with why.
ABSENT = {
    "fluent-bit": "Debian 12 has no package of it, and no registry its source",
    "fluentd": "rubygems.org is not among the registries",
    "vector": "its packages are the maker's own, and crates.io does not have it",
    "filebeat": "its packages are the maker's own; as a module of Go it wants the rest of its repository to be built",
    "kafka-connect, distributed": "it keeps its state in compacted topics, which are not built yet",
}
