"""Topics, their settings, and records that are deleted, by each client's admin client."""

from .clients import Failed
from .log import lines, slug
from .corpus import record
from .report import LACKS, OK

PARTITIONS = 3
RETENTION_MS = "3600000"


class Admin:
    def __init__(self, report, broker, clients, hand, tag, each):
        self.report, self.servers, self.clients, self.hand, self.tag, self.each = report, broker.servers, clients, hand, tag, each

    def run(self):
        self.each("admin", self.clients, self.administer)

    def administer(self, client):
        topic = f"{self.tag}-admin-{slug(client.name)}"
        # Who creates none still looks at one.
        maker = client if client.has("create-topic") else self.hand
        self.tried(client, "topics", self.create, client, maker, topic)
        for column, command, check in (("configs", "describe-configs", self.configs), ("del.records", "delete-records", self.records)):
            if client.has(command):
                self.tried(client, column, check, client, topic)
            else:
                self.report.mark(client.name, column, LACKS)
        self.tried(client, "topics", self.delete, client, maker, topic)

    def tried(self, client, column, check, *args):
        try:
            check(*args)
            self.report.mark(client.name, column, OK)
        except Failed as why:
            self.report.fail(client.name, column, why)

    def create(self, client, maker, topic):
        maker.run("create-topic", servers=self.servers, topic=topic, partition=PARTITIONS, configs={"retention.ms": RETENTION_MS})
        self.refused(("exist",), maker, "create-topic", topic=topic, partition=PARTITIONS)
        [told] = client.run("topics", servers=self.servers)
        if topic not in told["topics"]:
            raise Failed(f"{topic} is not among {told['topics']}")
        [told] = client.run("describe-topic", servers=self.servers, topic=topic)
        partitions = [each["partition"] for each in told["partitions"]]
        whole = all(each["leader"] in each["replicas"] and each["isr"] for each in told["partitions"])
        if partitions != list(range(PARTITIONS)) or not whole:
            raise Failed(f"the topic is described as {told}")

    def refused(self, words, client, command, **args):
        try:
            client.run(command, servers=self.servers, **args)
        except Failed as why:
            if not any(word in str(why).lower() for word in words):
                raise Failed(f"{command} fails, and says none of {words}: {why}") from None
            return
        raise Failed(f"{command} has to fail with {args}")

    def configs(self, client, topic):
        [told] = client.run("describe-configs", servers=self.servers, topic=topic)
        configs = told["configs"]
        if configs.get("retention.ms") != RETENTION_MS:
            raise Failed(f"retention.ms is {RETENTION_MS}, and it shows {configs}")
        # Defaults are shown, too: tools look for these.
        absent = [name for name in ("cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.bytes")
                  if not configs.get(name)]
        if absent:
            raise Failed(f"{absent} are not shown: {configs}")

    def records(self, client, topic):
        values = [record(1, None, f'{{"n": {n}}}'.encode()) | {"timestamp": 1_700_000_000_000 + n} for n in range(20)]
        self.hand.run("produce", lines(values), servers=self.servers, topic=topic, codec="none", idempotent=True)
        [told] = client.run("delete-records", servers=self.servers, topic=topic, partition=1, before=12)
        if told["low"] not in (12, None):
            raise Failed(f"the partition begins at 12 now, and it says {told}")
        [told] = self.hand.run("offsets", servers=self.servers, topic=topic, partitions=1)
        if (told["beginning"], told["end"]) != (12, 20):
            raise Failed(f"the partition goes from 12 to 20 now, and it says {told}")
        came = client.run("consume", servers=self.servers, topic=topic, partitions=1, start="beginning", count=8)
        if [each["offset"] for each in came] != list(range(12, 20)):
            raise Failed(f"what is left is 12 to 19, and there came {came}")

    def delete(self, client, maker, topic):
        maker.run("delete-topic", servers=self.servers, topic=topic)
        [told] = client.run("topics", servers=self.servers)
        if topic in told["topics"]:
            raise Failed(f"{topic} is deleted, and still listed")
        self.refused(("unknown", "does not exist", "does not host"), maker, "delete-topic", topic=topic)
