"""Producing with each client in each codec, and reading all of that with each; offsets, times, and the middle of a log."""

import collections
import json

from .clients import CODECS, Failed
from .corpus import corpus, difference, first_at
from .report import LACKS, OK

# What is produced to which partition.
VARIANTS = [(codec, idempotent) for idempotent in (False, True) for codec in CODECS]


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def slug(name):
    return name.replace(" ", "-")


class Log:
    def __init__(self, report, broker, clients, hand, tag, each):
        self.report, self.servers, self.clients, self.hand, self.tag, self.each = report, broker.servers, clients, hand, tag, each
        # By producer: by partition: what was produced, with its offsets.
        self.produced = collections.defaultdict(dict)

    def topic(self, client):
        return f"{self.tag}-{slug(client.name)}"

    def run(self):
        self.each("produce", self.clients, self.produce)
        self.each("consume", self.clients, self.consume)
        self.each("offsets", self.clients, self.offsets)

    def produce(self, client):
        try:
            self.hand.run("create-topic", servers=self.servers, topic=self.topic(client), partition=len(VARIANTS))
        except Failed as why:
            self.report.fail(self.hand.name, "topics", why)
            return
        for partition, (codec, idempotent) in enumerate(VARIANTS):
            columns = ["idempotent"] if idempotent else [codec]
            if codec not in client.codecs:
                self.report.mark(client.name, codec, LACKS)
                continue
            records = corpus(client, f"{codec} {idempotent}", partition)
            try:
                told = client.run("produce", lines(records), servers=self.servers, topic=self.topic(client), codec=codec,
                                  idempotent=idempotent)
                self.check_offsets(records, told)
            except Failed as why:
                for column in columns:
                    self.report.fail(client.name, column, f"producing with {codec}, idempotent {idempotent}: {why}")
                continue
            for offset, record in enumerate(records):
                record["offset"] = offset
            self.produced[client.name][partition] = records
            for column in columns:
                self.report.mark(client.name, column, OK)

    def check_offsets(self, records, told):
        offsets = [line["offset"] for line in told]
        if offsets != list(range(len(records))) and any(offset is not None for offset in offsets):
            raise Failed(f"the acknowledged offsets are {offsets}")

    def consume(self, client):
        for producer in self.clients:
            if produced := self.produced[producer.name]:
                try:
                    self.consume_of(client, producer, produced)
                    self.report.mark(client.name, "consume", OK)
                except Failed as why:
                    self.report.fail(client.name, "consume", f"what {producer.name} produced: {why}")

    def consume_of(self, client, producer, produced):
        count = sum(len(records) for records in produced.values())
        came = client.run("consume", servers=self.servers, topic=self.topic(producer), partitions=sorted(produced),
                          start="beginning", count=count)
        by_partition = collections.defaultdict(list)
        for record in came:
            by_partition[record["partition"]].append(record)
        found = []
        for partition, records in produced.items():
            if why := difference(client, records, by_partition[partition], producer.has("timestamps")):
                codec, idempotent = VARIANTS[partition]
                found.append(f"with {codec}, idempotent {idempotent}: {why}")
        if found:
            raise Failed("\n".join(found))

    def offsets(self, client):
        """All about positions, in what the hand produced: in one partition as it is, in the other compressed."""
        topic, produced = self.topic(self.hand), self.produced[self.hand.name]
        for partition in (0, 1):
            if records := produced.get(partition):
                for column, check in (("offsets", self.ends), ("time", self.times), ("middle", self.middle), ("seek", self.seek)):
                    if not client.has(column):
                        self.report.mark(client.name, column, LACKS)
                        continue
                    try:
                        check(client, topic, partition, records)
                        self.report.mark(client.name, column, OK)
                    except Failed as why:
                        self.report.fail(client.name, column, f"partition {partition}: {why}")

    def ends(self, client, topic, partition, records):
        [told] = client.run("offsets", servers=self.servers, topic=topic, partitions=partition)
        if (told["beginning"], told["end"]) != (0, len(records)):
            raise Failed(f"the partition goes from 0 to {len(records)}, and it says {told}")

    def times(self, client, topic, partition, records):
        stamps = [record["timestamp"] for record in records]
        asked = [stamps[0] - 1, stamps[10], stamps[20] + 1, stamps[22], stamps[23] - 1, max(stamps), max(stamps) + 1]
        expected = [first_at(records, ms) for ms in asked]
        if not client.has("no offset of a time"):
            expected = [len(records) if offset is None else offset for offset in expected]
        [told] = client.run("offsets", servers=self.servers, topic=topic, partitions=partition, times=asked)
        if told["at"] != expected:
            raise Failed(f"the offsets of {asked} are {expected}, and it says {told['at']}; times of records: {stamps[:30]}…")
        times = [None if at is None else stamps[at] for at in (first_at(records, ms) for ms in asked)]
        if told.get("times", times) != times:
            raise Failed(f"the times of records at {expected} are {times}, and it says {told['times']}")
        start = first_at(records, asked[2])
        came = client.run("consume", servers=self.servers, topic=topic, partitions=partition, start=f"time:{asked[2]}",
                          count=len(records) - start)
        self.same(client, records[start:], came)

    def middle(self, client, topic, partition, records):
        for start in (1, 37, len(records) - 1):
            came = client.run("consume", servers=self.servers, topic=topic, partitions=partition, start=start,
                              count=len(records) - start)
            self.same(client, records[start:], came)

    def seek(self, client, topic, partition, records):
        for start in (len(records) - 3, 0):
            came = client.run("consume", servers=self.servers, topic=topic, partitions=partition, start="beginning", seek=start,
                              count=len(records) - start)
            self.same(client, records[start:], came)

    def same(self, client, records, came):
        if why := difference(client, records, came, True):
            raise Failed(why)
