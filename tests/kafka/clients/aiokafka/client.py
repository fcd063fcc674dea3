"""aiokafka."""

import asyncio
import pathlib
import sys
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from interface import end_of_input, main, records, tell, tell_record


async def about(args):
    tell(client="aiokafka", version=aiokafka.__version__)


async def produce(args):
    codec = None if args.codec == "none" else args.codec
    producer = AIOKafkaProducer(bootstrap_servers=args.servers, compression_type=codec, enable_idempotence=args.idempotent,
                                acks="all", linger_ms=50)
    await producer.start()
    sent = [await producer.send(args.topic, record["value"], record["key"], record["partition"], record["timestamp"],
                                record["headers"])
            for record in records()]
    for acknowledged in await asyncio.wait_for(asyncio.gather(*sent), args.timeout):
        tell(partition=acknowledged.partition, offset=acknowledged.offset)
    await producer.stop()


async def consumer_of(args, *topics, **more):
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=args.servers, enable_auto_commit=False, fetch_max_wait_ms=100, **more)
    await consumer.start()
    return consumer


def of_topic(args):
    return [TopicPartition(args.topic, partition) for partition in args.partitions]


def tell_message(message, **more):
    tell_record(message.partition, message.offset, message.timestamp, message.key, message.value, message.headers, **more)


async def consume(args):
    consumer = await consumer_of(args, auto_offset_reset="none")
    partitions = of_topic(args)
    consumer.assign(partitions)
    if args.start == "beginning":
        await consumer.seek_to_beginning(*partitions)
    elif args.start.startswith("time:"):
        at = await consumer.offsets_for_times({partition: int(args.start[5:]) for partition in partitions})
        for partition in partitions:
            consumer.seek(partition, at[partition].offset)
    else:
        for partition in partitions:
            consumer.seek(partition, int(args.start))
    if args.seek is not None:
        first = await asyncio.wait_for(consumer.getone(), args.timeout)
        consumer.seek(TopicPartition(args.topic, first.partition), args.seek)
    for _ in range(args.count):
        tell_message(await asyncio.wait_for(consumer.getone(), args.timeout))
    await consumer.stop()


async def offsets(args):
    consumer = await consumer_of(args)
    partitions = of_topic(args)
    beginnings, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    for partition in partitions:
        found = [(await consumer.offsets_for_times({partition: ms}))[partition] for ms in args.times]
        tell(partition=partition.partition, beginning=beginnings[partition], end=ends[partition],
             at=[at and at.offset for at in found], times=[at and at.timestamp for at in found])
    await consumer.stop()


async def group(args):
    held = set()

    class Listener(ConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked):
            held.clear()
            tell(event="revoked", partitions=sorted(p.partition for p in revoked))

        async def on_partitions_assigned(self, assigned):
            held.update(p.partition for p in assigned)
            tell(event="assigned", partitions=sorted(held))

    consumer = AIOKafkaConsumer(
        bootstrap_servers=args.servers, enable_auto_commit=False, fetch_max_wait_ms=100, auto_offset_reset="earliest",
        group_id=args.group, group_instance_id=args.instance, partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=30_000, heartbeat_interval_ms=1_000)
    consumer.subscribe([args.topic], listener=Listener())
    ended, until, left = end_of_input(), time.monotonic() + args.timeout, args.count or 0
    await consumer.start()
    while not ended.is_set() and time.monotonic() < until:
        offsets = {}
        for partition, came in (await consumer.getmany(timeout_ms=200, max_records=min(left, 50) if args.count else 50)).items():
            for message in came:
                tell_message(message, event="record")
                offsets[partition] = message.offset + 1
                left -= 1
        if offsets:
            await consumer.commit(offsets)
            tell(event="committed", offsets={partition.partition: offset for partition, offset in offsets.items()})
        if args.count and left <= 0:
            break
    await consumer.stop()
    if args.count and left > 0:
        sys.exit(f"{left} records are missing")


async def committed(args):
    consumer = await consumer_of(args, group_id=args.group)
    for partition in of_topic(args):
        tell(partition=partition.partition, offset=await consumer.committed(partition))
    await consumer.stop()


async def with_admin(args, do):
    admin = AIOKafkaAdminClient(bootstrap_servers=args.servers)
    await admin.start()
    try:
        return await do(admin)
    finally:
        await admin.close()


def refuse(error, *more):
    if error:
        sys.exit(f"refused: {aiokafka.errors.for_code(error).__name__} {more}")


async def create_topic(args):
    # It takes no -1 for as many replicas as the broker likes.
    topic = NewTopic(args.topic, num_partitions=args.partition, replication_factor=1, topic_configs=args.configs)
    response = await with_admin(args, lambda admin: admin.create_topics([topic]))
    for _, error, *more in response.topic_errors:
        refuse(error, *more)


async def topics(args):
    tell(topics=sorted(await with_admin(args, lambda admin: admin.list_topics())))


async def describe_topic(args):
    [described] = await with_admin(args, lambda admin: admin.describe_topics([args.topic]))
    refuse(described["error_code"])
    tell(topic=described["topic"], partitions=sorted((
        {"partition": p["partition"], "leader": p["leader"], "replicas": p["replicas"], "isr": p["isr"]}
        for p in described["partitions"]), key=lambda p: p["partition"]))


async def describe_configs(args):
    resource = ConfigResource(ConfigResourceType.TOPIC, args.topic)
    [response] = await with_admin(args, lambda admin: admin.describe_configs([resource]))
    [(error, message, _, _, entries)] = response.resources
    refuse(error, message)
    tell(configs={entry[0]: entry[1] for entry in entries})


async def delete_records(args):
    asked = {TopicPartition(args.topic, args.partition): RecordsToDelete(before_offset=args.before)}
    [low] = (await with_admin(args, lambda admin: admin.delete_records(asked))).values()
    tell(low=low)


async def delete_topic(args):
    response = await with_admin(args, lambda admin: admin.delete_topics([args.topic]))
    for _, error, *more in response.topic_error_codes:
        refuse(error, *more)


async def groups(args):
    found = await with_admin(args, lambda admin: admin.list_consumer_groups())
    tell(groups=sorted(group[0] for group in found))


async def describe_group(args):
    [response] = await with_admin(args, lambda admin: admin.describe_consumer_groups([args.group]))
    [(error, name, state, _, _, members, *_)] = response.groups
    refuse(error)
    tell(group=name, state=state.replace(" ", "").lower(), members=len(members))


def waiting(command):
    return lambda args: asyncio.run(command(args))


main({name: waiting(command) for name, command in {
    "about": about, "produce": produce, "consume": consume, "offsets": offsets, "group": group, "committed": committed,
    "create-topic": create_topic, "topics": topics, "describe-topic": describe_topic, "describe-configs": describe_configs,
    "delete-records": delete_records, "delete-topic": delete_topic, "groups": groups, "describe-group": describe_group,
}.items()})
