"""Groups of consumers: commits, going on from them, and members of different clients in one group."""

import json
import time

from .clients import Failed
from .corpus import record
from .log import lines, slug
from .report import LACKS, OK

PARTITIONS = 4
RECORDS = 60
# Until a group is whole: Kafka waits three seconds for more members, and some clients look for changes every few seconds.
REBALANCED = 90


class Groups:
    def __init__(self, report, broker, clients, hand, tag, each):
        self.report, self.servers, self.clients, self.hand, self.tag, self.each = report, broker.servers, clients, hand, tag, each

    def run(self):
        self.each("groups", self.clients, self.alone)
        pairs = list(zip(self.clients, self.clients[1:] + self.clients[:1]))
        self.each("mixed groups", pairs, lambda pair: self.tried("mixed", pair, lambda: self.mixed(*pair, "range")))
        for client in self.clients:
            if not client.has("cooperative"):
                self.report.mark(client.name, "cooperative", LACKS)
        able = [client for client in self.clients if client.has("cooperative")]
        pairs = list(zip(able, able[1:] + able[:1]))
        self.each("cooperative groups", pairs,
                  lambda pair: self.tried("cooperative", pair, lambda: self.mixed(*pair, "cooperative")))

    def tried(self, column, clients, check):
        """A case of several clients is one of each of them."""
        names = " and ".join(client.name for client in clients)
        try:
            check()
            for client in clients:
                self.report.mark(client.name, column, OK)
        except Failed as why:
            for client in clients[:1]:
                self.report.fail(client.name, column, f"{names}: {why}")

    def alone(self, client):
        topic = f"{self.tag}-group-{slug(client.name)}"
        self.tried("group", [client], lambda: self.commits(client, topic))
        self.tried("resume", [client], lambda: self.resumes(client, topic))
        if client.has("groups"):
            self.tried("gr.admin", [client], lambda: self.administers(client, topic))
        else:
            self.report.mark(client.name, "gr.admin", LACKS)
        if client.has("static"):
            self.tried("static", [client], lambda: self.static(client, f"{topic}-static"))
        else:
            self.report.mark(client.name, "static", LACKS)

    def fill(self, topic, wave):
        """Records that are nowhere else, and their values."""
        values = [record(partition, f"k{n}".encode(), json.dumps({"wave": wave, "partition": partition, "n": n}).encode())
                  | {"timestamp": int(time.time() * 1000)} for partition in range(PARTITIONS) for n in range(RECORDS)]
        self.hand.run("produce", lines(values), servers=self.servers, topic=topic, codec="lz4", idempotent=True)
        return {each["value"] for each in values}

    def make(self, topic):
        self.hand.run("create-topic", servers=self.servers, topic=topic, partition=PARTITIONS)
        return self.fill(topic, 0)

    def consume(self, client, topic, count):
        member = client.start("group", servers=self.servers, topic=topic, group=topic, assignor="range", count=count,
                              timeout=REBALANCED)
        try:
            member.wait(REBALANCED + 30)
        finally:
            member.kill()
        return member.records()

    def committed(self, client, topic):
        told = client.run("committed", servers=self.servers, topic=topic, group=topic, partitions=range_of(PARTITIONS))
        return {line["partition"]: line["offset"] for line in told}

    def commits(self, client, topic):
        """A part is read, and what was committed is what was read."""
        self.make(topic)
        came = self.consume(client, topic, 2 * RECORDS)
        if len(came) != 2 * RECORDS:
            raise Failed(f"{len(came)} records came, and {2 * RECORDS} were asked for")
        read = {partition: 0 for partition in range(PARTITIONS)}
        for each in came:
            if each["offset"] != read[each["partition"]]:
                raise Failed(f"offset {each['offset']} of partition {each['partition']} came after {read[each['partition']]} records")
            read[each["partition"]] += 1
        for shower in [self.hand] + ([client] if client.has("committed") else []):
            told = {partition: offset or 0 for partition, offset in self.committed(shower, topic).items()}
            if told != read:
                raise Failed(f"{read} were read and committed, and {shower.name} shows {told}")

    def resumes(self, client, topic):
        """The rest is read, once."""
        before = {partition: offset or 0 for partition, offset in self.committed(self.hand, topic).items()}
        came = self.consume(client, topic, (PARTITIONS - 2) * RECORDS)
        offsets = {partition: sorted(each["offset"] for each in came if each["partition"] == partition) for partition in before}
        expected = {partition: list(range(start, RECORDS)) for partition, start in before.items()}
        if offsets != expected:
            raise Failed(f"committed were {before}, and then came {offsets}")
        if set(self.committed(self.hand, topic).values()) != {RECORDS}:
            raise Failed(f"all was read, and committed are {self.committed(self.hand, topic)}")

    def administers(self, client, topic):
        [told] = client.run("groups", servers=self.servers)
        if topic not in told["groups"]:
            raise Failed(f"{topic} is not among {told['groups']}")
        self.described(client, topic, "empty", 0)
        member = client.start("group", servers=self.servers, topic=topic, group=topic, assignor="range", timeout=240)
        try:
            member.until("all partitions", REBALANCED, lambda _: len(member.assigned() or ()) == PARTITIONS)
            self.described(client, topic, "stable", 1)
            member.finish()
        finally:
            member.kill()
        if client.has("delete-group"):
            client.run("delete-group", servers=self.servers, group=topic)
            [told] = client.run("groups", servers=self.servers)
            if topic in told["groups"]:
                raise Failed(f"{topic} is deleted, and still listed")

    def described(self, client, group, state, members):
        [told] = client.run("describe-group", servers=self.servers, group=group)
        if (told["state"], told["members"]) != (state, members):
            raise Failed(f"the group is {state} and has {members} members, and it says {told}")

    def static(self, client, topic):
        """A static member that leaves without a word and comes back gets what it had, and its group does not rebalance."""
        all_values = self.make(topic)
        start = lambda instance: client.start("group", servers=self.servers, topic=topic, group=topic, assignor="range",
                                              instance=instance, timeout=300)
        one, other = start("one"), start("two")
        again = None
        try:
            self.whole([one, other])
            had = one.assigned()
            changes = sum(line.get("event") == "assigned" for line in other.lines)
            one.kill()
            again = start("one")
            again.until("its partitions", REBALANCED, lambda _: again.assigned() is not None)
            other.drain()
            if again.assigned() != had or sum(line.get("event") == "assigned" for line in other.lines) != changes:
                raise again.failure(f"it had {had}, and is assigned {again.assigned()}; the other's lines: {events(other)}")
            more = self.fill(topic, 1)
            self.all_read([one, other, again], all_values | more)
            again.finish()
            other.finish()
        finally:
            for member in (one, other, again):
                if member:
                    member.kill()

    def whole(self, members):
        """Waits until the members have all partitions among them, each its share."""
        end = time.monotonic() + REBALANCED
        while time.monotonic() < end:
            for member in members:
                member.drain()
                if member.process.poll() is not None:
                    raise member.failure(f"it ended with {member.process.returncode}")
            held = [member.assigned() or set() for member in members]
            if set().union(*held) == set(range(PARTITIONS)) and sum(map(len, held)) == PARTITIONS and all(held):
                return
            time.sleep(0.2)
        raise Failed("the group does not become whole:\n" + "\n".join(str(member.failure("this member")) for member in members))

    def all_read(self, members, values):
        """Waits until every value has come to some member."""
        end = time.monotonic() + REBALANCED
        while time.monotonic() < end:
            for member in members:
                member.drain()
            missing = values - {each["value"] for member in members for each in member.records()}
            if not missing:
                return
            time.sleep(0.2)
        raise Failed(f"{len(missing)} of {len(values)} records came to nobody:\n"
                     + "\n".join(str(member.failure("this member")) for member in members))

    def mixed(self, one, other, assignor):
        """Two members share the partitions; when one leaves, the other has all, and nothing is lost."""
        topic = f"{self.tag}-{assignor}-{slug(one.name)}-{slug(other.name)}"
        values = self.make(topic)
        start = lambda client: client.start("group", servers=self.servers, topic=topic, group=topic, assignor=assignor, timeout=400)
        members = [start(one)]
        try:
            members[0].until("all partitions", REBALANCED, lambda _: len(members[0].assigned() or ()) == PARTITIONS)
            members.append(start(other))
            self.whole(members)
            if assignor == "cooperative" and any(len(line["partitions"]) == PARTITIONS
                                                 for line in members[0].lines if line.get("event") == "revoked"):
                raise members[0].failure("a cooperative member gives up only what another gets")
            values |= self.fill(topic, 1)
            self.all_read(members, values)
            members[0].finish()
            members[1].until("all partitions", REBALANCED, lambda _: len(members[1].assigned() or ()) == PARTITIONS)
            values |= self.fill(topic, 2)
            self.all_read(members, values)
            members[1].finish()
            told = self.committed(self.hand, topic)
            if told != {partition: 3 * RECORDS for partition in range(PARTITIONS)}:
                raise Failed(f"all was read and committed, and committed are {told}")
            count = sum(len(member.records()) for member in members)
            if count != len(values):
                self.report.note(f"note: {one.name} and {other.name}, {assignor}: {count - len(values)} records came twice")
        finally:
            for member in members:
                member.kill()


def range_of(count):
    return list(range(count))


def events(member):
    return [line for line in member.lines if line.get("event") in ("assigned", "revoked")]
