"""Groups: kafka-consumer-groups in all its forms, kafka-groups, and the tools of the kinds that are not there."""

import re
import time

RECORDS = 40


def look(kafka):
    group = listed(kafka)
    resets(kafka, group)
    active(kafka)
    delete(kafka, group)
    others(kafka)


def read(kafka, group, topic, count):
    """A group that has read and left."""
    return kafka.said(
        "kafka-console-consumer",
        f"--bootstrap-server {kafka.servers} --topic {topic} --group {group} --from-beginning --max-messages {count} " "--timeout-ms 20000",
    )


def listed(kafka):
    tool, topic, group = kafka.tool("kafka-consumer-groups"), kafka.topic("read", 2, RECORDS), kafka.name("group")
    read(kafka, group, topic, RECORDS)
    tool("list", "--list", says=f"^{group}$")
    tool("list --state", "--list --state", says=rf"^{group}\s+(Classic\s+)?Empty")
    tool("list --state Stable", "--list --state Stable", lacks=f"^{group}")
    tool("list --type", "--list --type", says=rf"^{group}\s+Classic")
    tool(
        "describe",
        f"--describe --group {group}",
        says=[f"Consumer group '{group}' has no active members", rf"^{group} +{topic} +0 +\d+ +\d+ +0 +- +- +-"],
    )
    tool("describe --offsets --verbose", f"--describe --group {group} --offsets --verbose", says=rf"^{group} +{topic} +1 +\S+ +\d+ +\d+ +0")
    tool("describe --state", f"--describe --group {group} --state", says=rf"^{group} .*Empty +0")
    tool("describe --members", f"--describe --group {group} --members", says=f"Consumer group '{group}' has no active members")
    tool("describe --all-groups", "--describe --all-groups", says=rf"^{group} +{topic} +0")
    tool("describe what is not there", f"--describe --group {group}-nosuch", says="not found|does not exist|GroupIdNotFound")
    tool(
        "describe what is not there, --state", f"--describe --group {group}-nosuch --state", says="not found|does not exist|GroupIdNotFound"
    )
    kinds = kafka.tool("kafka-groups")
    kinds("list", "--list", says=rf"^{group}\s+Classic\s+consumer")
    kinds("list --consumer", "--list --consumer", says=rf"^{group}\s+Classic\s+consumer")
    kinds("list --share", "--list --share", lacks=f"^{group}")
    return group


def resets(kafka, group):
    tool, topic = kafka.tool("kafka-consumer-groups"), kafka.name("read")
    one = f"--reset-offsets --group {group} --topic {topic}"

    def sum_is(wanted):
        def check(said):
            offsets = [int(offset) for offset in re.findall(rf"^{group} +{topic} +\d +(\d+)", said, re.M)]
            return None if len(offsets) == 2 and sum(offsets) == wanted else f"the offsets are not two of together {wanted}"

        return check

    tool("reset --to-earliest, without --execute", f"{one} --to-earliest", says="WARN.*dry", check=sum_is(0))
    tool("reset --to-earliest --dry-run", f"{one} --to-earliest --dry-run", check=sum_is(0))
    tool("describe what was not reset", f"--describe --group {group}", says=rf"{topic} +0 +\d+ +\d+ +0 ")
    tool("reset --to-earliest", f"{one} --to-earliest --execute", check=sum_is(0))
    tool("describe what was reset", f"--describe --group {group}", says=rf"{topic} +0 +0 +(\d+) +\1 ")
    tool("reset --to-latest", f"{one} --to-latest --execute", check=sum_is(RECORDS))
    tool("reset --shift-by", f"{one} --shift-by -3 --execute", check=sum_is(RECORDS - 6))
    tool("reset --to-current", f"{one} --to-current --execute", check=sum_is(RECORDS - 6))
    tool("reset --to-offset", f"{one} --to-offset 2 --execute", check=sum_is(4))
    tool("reset --to-offset beyond the end", f"{one} --to-offset 100000 --execute", says="WARN.*higher than latest", check=sum_is(RECORDS))
    tool("reset --to-datetime of the past", f"{one} --to-datetime 2020-01-01T00:00:00.000 --execute", check=sum_is(0))
    tool("reset --to-datetime of the future", f"{one} --to-datetime 2100-01-01T00:00:00.000 --execute", check=sum_is(RECORDS))
    tool("reset --by-duration", f"{one} --by-duration PT1H --execute", check=sum_is(0))
    tool(
        "reset of a partition",
        f"--reset-offsets --group {group} --topic {topic}:1 --to-latest --execute",
        says=rf"^{group} +{topic} +1 +\d+",
        lacks=rf"^{group} +{topic} +0",
    )
    tool("reset --all-topics", f"--reset-offsets --group {group} --all-topics --to-earliest --execute", check=sum_is(0))
    plan = tool("reset --export", f"{one} --to-offset 5 --dry-run --export", says=rf'^"?{topic}"?,0,5$')
    rows = "\n".join(line for line in plan.splitlines() if re.match(rf'"?{topic}"?,\d,\d+$', line))
    tool("reset --from-file", f"--reset-offsets --group {group} --from-file {kafka.file('plan.csv', rows)} --execute", check=sum_is(10))
    tool(
        "reset of a new group",
        f"--reset-offsets --group {group}-new --topic {topic} --to-earliest --execute",
        says=rf"^{group}-new +{topic} +0 +0",
    )
    tool(
        "reset of a topic that is not there",
        f"--reset-offsets --group {group} --topic {topic}-nosuch --to-earliest --execute",
        says="not exist|UnknownTopic|does not host",
        patience=150,
    )
    tool("delete-offsets", f"--delete-offsets --group {group} --topic {topic}", says=rf"{topic} +0 +Successful")
    tool("describe without them", f"--describe --group {group}", lacks=rf"^{group} +{topic} +0 +\d")


def active(kafka):
    tool, topic, group = kafka.tool("kafka-consumer-groups"), kafka.topic("busy", 2, RECORDS), kafka.name("busy-group")
    reader = kafka.start("kafka-console-consumer", f"--bootstrap-server {kafka.servers} --topic {topic} --group {group} --from-beginning")
    reader.until(f"^v{RECORDS - 1}$")
    time.sleep(6)  # It commits every five seconds.
    tool(
        "describe one that is read",
        f"--describe --group {group}",
        says=[rf"^{group} +{topic} +0 +\d+ +\d+ +0 +console-consumer-\S+ +/127\.0\.0\.1 +console-consumer"],
    )
    tool("describe --members of it", f"--describe --group {group} --members", says=rf"^{group} +console-consumer-\S+ .*console-consumer +2")
    tool("describe --members --verbose of it", f"--describe --group {group} --members --verbose", says=rf"{topic}[:(]\S*0,\s?1")
    tool("describe --state of it", f"--describe --group {group} --state", says=rf"^{group} +\S+:\d+ +\(\d+\) +range +Stable +1")
    tool("list --state of it", "--list --state Stable", says=rf"^{group}\s.*Stable")
    tool(
        "reset one that is read",
        f"--reset-offsets --group {group} --topic {topic} --to-earliest --execute",
        says="can only be reset if the group.* is inactive",
    )
    tool("delete one that is read", f"--delete --group {group}", says="GroupNotEmptyException")
    tool("delete-offsets of one that is read", f"--delete-offsets --group {group} --topic {topic}", says="GroupSubscribedToTopic")
    reader.stop()
    tool(
        "reset after its end", f"--reset-offsets --group {group} --topic {topic} --to-earliest --execute", says=rf"^{group} +{topic} +0 +0"
    )


def delete(kafka, group):
    tool = kafka.tool("kafka-consumer-groups")
    tool("delete", f"--delete --group {group}-new", says="was successful")
    tool("list without it", "--list", lacks=f"^{group}-new$")
    tool("delete again", f"--delete --group {group}-new", says="GroupIdNotFoundException")


def others(kafka):
    kafka.tool("kafka-share-groups")("list", "--list", lacks="ERROR|Exception")
    kafka.tool("kafka-streams-groups")("list", "--list", lacks="ERROR|Exception")
    topic = kafka.topic("streamed", 1, 5)
    read(kafka, kafka.name("application"), topic, 5)
    kafka.tool("kafka-streams-application-reset")(
        "resets the offsets of an application",
        f"--application-id {kafka.name('application')} --input-topics {topic}",
        says="Reset-offsets for input topics|Done",
    )
