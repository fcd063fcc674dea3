"""confluent-kafka, which is librdkafka in Python."""

import contextlib
import pathlib
import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from interface import end_of_input, main, records, tell, tell_record


def about(args):
    tell(client="confluent-kafka", version=confluent_kafka.__version__, library=confluent_kafka.libversion()[0])


def produce(args):
    failed, acknowledged = [], {}

    def delivered(at):
        def told(error, message):
            if error:
                failed.append(error)
            else:
                acknowledged[at] = message
        return told

    producer = Producer({
        "bootstrap.servers": args.servers, "compression.type": args.codec, "enable.idempotence": args.idempotent,
        "linger.ms": 50, "message.timeout.ms": int(args.timeout * 1000),
    })
    count = 0
    for record in records():
        producer.produce(args.topic, record["value"], record["key"], record["partition"], headers=record["headers"],
                         timestamp=record["timestamp"], on_delivery=delivered(count))
        count += 1
    producer.flush(args.timeout)
    if failed or len(acknowledged) != count:
        sys.exit(f"{len(acknowledged)} of {count} were acknowledged: {failed[:3]}")
    for at in range(count):
        tell(partition=acknowledged[at].partition(), offset=acknowledged[at].offset())


def consumer_of(args, **more):
    return Consumer({"bootstrap.servers": args.servers, "group.id": args.group or "none", "enable.auto.commit": False,
                     "auto.offset.reset": "error", "fetch.wait.max.ms": 100, **more})


def heed(error):
    """Ends at an error that nothing follows; librdkafka recovers from all others, or records stay away."""
    if error.fatal() or error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.UNKNOWN_TOPIC_OR_PART):
        sys.exit(f"consuming failed: {error}")
    print(f"consuming goes on after {error}", file=sys.stderr)


def messages(consumer, timeout):
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            heed(message.error())
            continue
        yield message
    sys.exit("not all records came in time")


def tell_message(message, **more):
    tell_record(message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(),
                message.headers(), **more)


def consume(args):
    consumer = consumer_of(args)
    if args.start == "beginning":
        starts = [TopicPartition(args.topic, partition, confluent_kafka.OFFSET_BEGINNING) for partition in args.partitions]
    elif args.start.startswith("time:"):
        at = int(args.start[5:])
        starts = consumer.offsets_for_times([TopicPartition(args.topic, partition, at) for partition in args.partitions], 30)
    else:
        starts = [TopicPartition(args.topic, partition, int(args.start)) for partition in args.partitions]
    consumer.assign(starts)
    came = messages(consumer, args.timeout)
    if args.seek is not None:
        first = next(came)
        consumer.seek(TopicPartition(args.topic, first.partition(), args.seek))
    for _ in range(args.count):
        tell_message(next(came))
    consumer.close()


def offsets(args):
    consumer = consumer_of(args)
    for partition in args.partitions:
        beginning, end = consumer.get_watermark_offsets(TopicPartition(args.topic, partition), 30, cached=False)
        at = []
        for ms in args.times:
            [found] = consumer.offsets_for_times([TopicPartition(args.topic, partition, ms)], 30)
            if found.error:
                sys.exit(f"no offset of a time: {found.error}")
            at.append(found.offset if found.offset >= 0 else None)
        tell(partition=partition, beginning=beginning, end=end, at=at)


def group(args):
    strategy = {"range": "range", "cooperative": "cooperative-sticky"}[args.assignor]
    static = {"group.instance.id": args.instance} if args.instance else {}
    consumer = consumer_of(args, **{"auto.offset.reset": "earliest", "partition.assignment.strategy": strategy,
                                    "session.timeout.ms": 30_000, "heartbeat.interval.ms": 1_000}, **static)
    held = set()

    def assigned(_, partitions):
        held.update(p.partition for p in partitions)
        tell(event="assigned", partitions=sorted(held))

    def revoked(_, partitions):
        held.difference_update(p.partition for p in partitions)
        tell(event="revoked", partitions=sorted(p.partition for p in partitions))

    ended, until, left = end_of_input(), time.monotonic() + args.timeout, args.count or 0
    consumer.subscribe([args.topic], on_assign=assigned, on_revoke=revoked)
    while not ended.is_set() and time.monotonic() < until:
        came = consumer.consume(min(left, 50) if args.count else 50, 0.2)
        offsets = {}
        for message in came:
            if message.error():
                heed(message.error())
                continue
            tell_message(message, event="record")
            offsets[message.partition()] = message.offset() + 1
            left -= 1
        if offsets:
            for done in consumer.commit(offsets=[TopicPartition(args.topic, p, o) for p, o in offsets.items()], asynchronous=False):
                if done.error:
                    sys.exit(f"the commit failed: {done.error}")
            tell(event="committed", offsets=offsets)
        if args.count and left <= 0:
            break
    consumer.close()
    if args.count and left > 0:
        sys.exit(f"{left} records are missing")


def committed(args):
    consumer = consumer_of(args)
    for found in consumer.committed([TopicPartition(args.topic, partition) for partition in args.partitions], 30):
        tell(partition=found.partition, offset=found.offset if found.offset >= 0 else None)


@contextlib.contextmanager
def admin(args):
    """An admin client, which has to live until its futures are done."""
    client = AdminClient({"bootstrap.servers": args.servers})
    yield client
    client.poll(0)


def wait_for(futures):
    for future in futures.values():
        future.result(30)


def create_topic(args):
    with admin(args) as client:
        topic = NewTopic(args.topic, num_partitions=args.partition, replication_factor=-1, config=args.configs)
        wait_for(client.create_topics([topic]))


def topics(args):
    with admin(args) as client:
        tell(topics=sorted(client.list_topics(timeout=30).topics))


def describe_topic(args):
    with admin(args) as client:
        described = client.describe_topics(confluent_kafka.TopicCollection([args.topic]))[args.topic].result(30)
        tell(topic=described.name, partitions=[
            {"partition": p.id, "leader": p.leader.id, "replicas": [n.id for n in p.replicas], "isr": [n.id for n in p.isr]}
            for p in described.partitions])


def describe_configs(args):
    with admin(args) as client:
        resource = ConfigResource(ResourceType.TOPIC, args.topic)
        found = client.describe_configs([resource])[resource].result(30)
        tell(configs={name: entry.value for name, entry in found.items()})


def delete_records(args):
    with admin(args) as client:
        asked = TopicPartition(args.topic, args.partition, args.before)
        [future] = client.delete_records([asked]).values()
        tell(low=future.result(30).low_watermark)


def delete_topic(args):
    with admin(args) as client:
        wait_for(client.delete_topics([args.topic]))


def groups(args):
    with admin(args) as client:
        found = client.list_consumer_groups(request_timeout=30).result()
        if found.errors:
            sys.exit(f"groups could not be listed: {found.errors}")
        tell(groups=sorted(group.group_id for group in found.valid))


def describe_group(args):
    with admin(args) as client:
        found = client.describe_consumer_groups([args.group], request_timeout=30)[args.group].result()
        tell(group=found.group_id, state=found.state.name.replace("_", "").lower(), members=len(found.members))


def delete_group(args):
    with admin(args) as client:
        wait_for(client.delete_consumer_groups([args.group], request_timeout=30))


main({
    "about": about, "produce": produce, "consume": consume, "offsets": offsets, "group": group, "committed": committed,
    "create-topic": create_topic, "topics": topics, "describe-topic": describe_topic, "describe-configs": describe_configs,
    "delete-records": delete_records, "delete-topic": delete_topic, "groups": groups, "describe-group": describe_group,
    "delete-group": delete_group,
})
