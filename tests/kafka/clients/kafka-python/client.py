"""kafka-python."""

import pathlib
import sys
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from interface import end_of_input, main, records, tell, tell_record


def about(args):
    tell(client="kafka-python", version=kafka.__version__)


def produce(args):
    codec = None if args.codec == "none" else args.codec
    producer = KafkaProducer(bootstrap_servers=args.servers, compression_type=codec, enable_idempotence=args.idempotent,
                             acks="all", linger_ms=50)
    sent = [producer.send(args.topic, record["value"], record["key"], record["headers"], record["partition"], record["timestamp"])
            for record in records()]
    producer.flush(args.timeout)
    for future in sent:
        acknowledged = future.get(args.timeout)
        tell(partition=acknowledged.partition, offset=acknowledged.offset)
    producer.close()


def consumer_of(args, **more):
    return KafkaConsumer(bootstrap_servers=args.servers, enable_auto_commit=False, fetch_max_wait_ms=100, **more)


def of_topic(args):
    return [TopicPartition(args.topic, partition) for partition in args.partitions]


def messages(consumer, timeout):
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        for came in consumer.poll(200).values():
            yield from came
    sys.exit("not all records came in time")


def tell_message(message, **more):
    tell_record(message.partition, message.offset, message.timestamp, message.key, message.value, message.headers, **more)


def consume(args):
    consumer = consumer_of(args, auto_offset_reset="none")
    partitions = of_topic(args)
    consumer.assign(partitions)
    if args.start == "beginning":
        consumer.seek_to_beginning(*partitions)
    elif args.start.startswith("time:"):
        at = consumer.offsets_for_times({partition: int(args.start[5:]) for partition in partitions})
        for partition in partitions:
            consumer.seek(partition, at[partition].offset)
    else:
        for partition in partitions:
            consumer.seek(partition, int(args.start))
    came = messages(consumer, args.timeout)
    if args.seek is not None:
        first = next(came)
        consumer.seek(TopicPartition(args.topic, first.partition), args.seek)
        # What was polled before is no answer to the seek.
        came = messages(consumer, args.timeout)
    for _ in range(args.count):
        tell_message(next(came))
    consumer.close()


def offsets(args):
    consumer = consumer_of(args)
    partitions = of_topic(args)
    beginnings, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    for partition in partitions:
        found = [consumer.offsets_for_times({partition: ms})[partition] for ms in args.times]
        tell(partition=partition.partition, beginning=beginnings[partition], end=ends[partition],
             at=[at and at.offset for at in found], times=[at and at.timestamp for at in found])


def group(args):
    assignor = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}[args.assignor]
    consumer = consumer_of(args, auto_offset_reset="earliest", group_id=args.group, partition_assignment_strategy=[assignor],
                           session_timeout_ms=30_000, heartbeat_interval_ms=1_000, group_instance_id=args.instance)
    held = set()

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            held.difference_update(p.partition for p in revoked)
            tell(event="revoked", partitions=sorted(p.partition for p in revoked))

        def on_partitions_assigned(self, assigned):
            held.update(p.partition for p in assigned)
            tell(event="assigned", partitions=sorted(held))

    ended, until, left = end_of_input(), time.monotonic() + args.timeout, args.count or 0
    consumer.subscribe([args.topic], listener=Listener())
    while not ended.is_set() and time.monotonic() < until:
        offsets = {}
        for partition, came in consumer.poll(200, max_records=min(left, 50) if args.count else 50).items():
            for message in came:
                tell_message(message, event="record")
                offsets[partition] = OffsetAndMetadata(message.offset + 1, "", -1)
                left -= 1
        if offsets:
            consumer.commit(offsets)
            tell(event="committed", offsets={partition.partition: at.offset for partition, at in offsets.items()})
        if args.count and left <= 0:
            break
    consumer.close()
    if args.count and left > 0:
        sys.exit(f"{left} records are missing")


def committed(args):
    consumer = consumer_of(args, group_id=args.group)
    for partition in of_topic(args):
        tell(partition=partition.partition, offset=consumer.committed(partition))


def admin(args):
    return KafkaAdminClient(bootstrap_servers=args.servers)


def create_topic(args):
    asked = {"num_partitions": args.partition, "replication_factor": -1, "configs": args.configs}
    admin(args).create_topics({args.topic: asked})


def topics(args):
    tell(topics=sorted(admin(args).list_topics()))


def describe_topic(args):
    [described] = admin(args).describe_topics([args.topic])
    if described["error_code"]:
        sys.exit(f"the topic is not described: error {described['error_code']}")
    tell(topic=described["name"], partitions=sorted((
        {"partition": p["partition_index"], "leader": p["leader_id"], "replicas": p["replica_nodes"], "isr": p["isr_nodes"]}
        for p in described["partitions"]), key=lambda p: p["partition"]))


def describe_configs(args):
    resource = ConfigResource(ConfigResourceType.TOPIC, args.topic)
    found = admin(args).describe_configs([resource], config_filter="all")["topic"][args.topic]
    tell(configs={name: entry["value"] for name, entry in found.items()})


def delete_records(args):
    partition = TopicPartition(args.topic, args.partition)
    [deleted] = admin(args).delete_records({partition: args.before}).values()
    tell(low=deleted["low_watermark"])


def delete_topic(args):
    admin(args).delete_topics([args.topic])


def groups(args):
    found = admin(args).list_groups()
    tell(groups=sorted(group["group_id"] for group in found))


def describe_group(args):
    found = admin(args).describe_groups([args.group])[args.group]
    if found["error"]:
        sys.exit(f"the group is not described: {found['error']}")
    tell(group=args.group, state=found["group_state"].replace(" ", "").lower(), members=len(found["members"]))


def delete_group(args):
    outcome = admin(args).delete_groups([args.group])
    if dict(outcome) != {args.group: "OK"}:
        sys.exit(f"the group is not deleted: {outcome}")


main({
    "about": about, "produce": produce, "consume": consume, "offsets": offsets, "group": group, "committed": committed,
    "create-topic": create_topic, "topics": topics, "describe-topic": describe_topic, "describe-configs": describe_configs,
    "delete-records": delete_records, "delete-topic": delete_topic, "groups": groups, "describe-group": describe_group,
    "delete-group": delete_group,
})
