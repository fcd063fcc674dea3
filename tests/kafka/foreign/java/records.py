"""Records and offsets: the console tools, kafka-get-offsets, kafka-delete-records, and the tools that measure."""

import json
import re

NO_TRANSACTIONS = "there are no transactions yet"


def look(kafka):
    produce(kafka)
    consume(kafka)
    offsets(kafka)
    delete(kafka)
    measure(kafka)
    verifiable(kafka)


def produce(kafka):
    tool, topic = kafka.tool("kafka-console-producer"), kafka.topic("produced")
    to = f"--topic {topic} "
    tool("lines", to, stdin="one\ntwo\n", lacks="ERROR|WARN")
    keyed = "--reader-property parse.key=true --reader-property key.separator=: --reader-property parse.headers=true"
    tool("keys and headers", to + keyed, stdin="h1:x,h2:y\tk1:three\n", lacks="ERROR|WARN")
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        tool(f"--compression-codec {codec}", to + f"--compression-codec {codec}", stdin=f"{codec}\n", lacks="ERROR|WARN")
    for acks in ("0", "1", "all"):
        tool(
            f"acks={acks}, not idempotent",
            to + f"--request-required-acks {acks} --command-property enable.idempotence=false",
            stdin=f"acks {acks}\n",
            lacks="ERROR|WARN",
        )
    tool("--sync", to + "--sync", stdin="waited for\n", lacks="ERROR|WARN")
    shown = "--from-beginning --timeout-ms 8000 --formatter-property print.key=true --formatter-property print.headers=true"
    every = ["one", "two", "gzip", "snappy", "lz4", "zstd", "acks 0", "acks 1", "acks all", "waited for"]
    kafka.tool("kafka-console-consumer")(
        "all that was produced",
        to + shown + f" --max-messages {len(every) + 1}",
        says=[rf"^NO_HEADERS\tnull\t{each}$" for each in every] + [r"^h1:x,h2:y\tk1\tthree$"],
    )
    tool(
        "too large a record",
        to + "--max-partition-memory-bytes 3000000 --command-property max.request.size=9000000",
        stdin="x" * 1_500_000 + "\n",
        says="RecordTooLargeException",
    )
    tool("to a topic that is not there", f"--topic {topic}-auto", stdin="first\n", lacks="ERROR")
    tool("to a name that is none", "--topic 'a b'", stdin="x\n", says="InvalidTopicException", code=0)


def consume(kafka):
    tool, topic = kafka.tool("kafka-console-consumer"), kafka.topic("consumed", 2, 40)
    to = f"--topic {topic} --timeout-ms 8000 "
    everything = "".join(
        f" --formatter-property print.{what}=true" for what in ("partition", "offset", "timestamp", "key", "epoch", "delivery")
    )
    tool("--from-beginning", to + "--from-beginning --max-messages 40", says=["^v0$", "^v39$", "Processed a total of 40 messages"])
    tool(
        "all that can be printed",
        to + "--from-beginning --max-messages 40" + everything,
        says=r"^CreateTime:\d{13}\tPartition:[01]\tOffset:\d+\t(Delivery:\S+\t)?Epoch:\S+\tk39\tv39$|CreateTime:\d{13}\t.*k39\tv39",
    )
    # How many are in partition 1 is the hash's choice, the same everywhere.
    tool(
        "--partition --offset",
        to + "--partition 1 --offset 3 --max-messages 2 --formatter-property print.offset=true",
        says=["^Offset:3\tv", "^Offset:4\tv"],
    )
    tool("--partition --offset earliest", to + "--partition 0 --offset earliest --max-messages 1", says="^v\\d+$")
    tool(
        "--partition --offset latest",
        to + "--partition 0 --offset latest --max-messages 1",
        says="Processed a total of 0 messages|TimeoutException",
        code=0,
    )
    tool(
        "--isolation-level read_committed",
        to + "--from-beginning --max-messages 40 --isolation-level read_committed",
        says="Processed a total of 40",
    )
    tool("--include", f"--include '{topic}.*' --timeout-ms 12000 --from-beginning --max-messages 40", says="Processed a total of 40")
    tool("--group", to + f"--group {topic} --from-beginning --max-messages 15", says="Processed a total of 15")
    tool("--group goes on", to + f"--group {topic} --max-messages 25", says="Processed a total of 25")
    tool("--group is at the end", to + f"--group {topic}", says="Processed a total of 0")
    tool(
        "a topic that is not there",
        f"--topic {topic}-nosuch --timeout-ms 5000 --command-property allow.auto.create.topics=false",
        says="UNKNOWN_TOPIC_OR_PARTITION",
        code=0,
    )
    tool(
        "group.protocol=consumer",
        to + f"--group {topic}-new --command-property group.protocol=consumer --from-beginning --max-messages 40",
        says="Processed a total of 40",
        ours={"says": "UnsupportedVersionException|UNSUPPORTED|not support"},
        why="groups whose brokers assign are not built yet",
    )
    share = kafka.tool("kafka-console-share-consumer")
    share(
        "share groups",
        f"--topic {topic} --group {topic}-share --timeout-ms 6000",
        says="Processed a total of \\d+",
        ours={"says": "UnsupportedVersionException|not support"},
        why="there are no share groups",
    )


def offsets(kafka):
    tool, topic = kafka.tool("kafka-get-offsets"), kafka.topic("offsets", 2, 30)
    one = f"--topic {topic} "

    def sum_is(count):
        def check(said):
            ends = [int(end) for end in re.findall(rf"^{topic}:\d:(\d+)$", said, re.M)]
            return None if len(ends) == 2 and sum(ends) == count else f"the offsets are not two of together {count}"

        return check

    tool("the end", one, check=sum_is(30))
    tool("--time latest", one + "--time latest", check=sum_is(30))
    tool("--time earliest", one + "--time earliest", check=sum_is(0))
    tool("--time 0", one + "--time 0", check=sum_is(0))
    # Where no record has such a time, the tool shows nothing.
    tool("--time of the future", one + "--time 4102444800000", lacks=".")
    tool("--time max-timestamp", one + "--time max-timestamp", says=rf"^{topic}:0:\d+$")
    tool("--time earliest-local", one + "--time earliest-local", check=sum_is(0))
    tool("--time latest-tiered", one + "--time latest-tiered", lacks="ERROR")
    tool("--topic-partitions", f"--topic-partitions {topic}:1", says=rf"^{topic}:1:\d+$", lacks=rf"^{topic}:0:")
    tool("all topics, without internal ones", "--exclude-internal-topics", says=rf"^{topic}:0:\d+$", lacks="__consumer_offsets")
    tool("a topic that is not there", f"--topic {topic}-nosuch", code=1, says="Could not match any topic-partitions")


def delete(kafka):
    tool, topic = kafka.tool("kafka-delete-records"), kafka.topic("deleted", 1, 20)

    def until(offset):
        return kafka.file("delete.json", {"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": offset}]})

    tool("up to an offset", f"--offset-json-file {until(7)}", says=rf"partition: {topic}-0\s+low_watermark: 7")
    kafka.tool("kafka-get-offsets")("begins there", f"--topic {topic} --time earliest", says=f"^{topic}:0:7$")
    tool("up to the end", f"--offset-json-file {until(-1)}", says=r"low_watermark: 20")
    tool("beyond the end", f"--offset-json-file {until(100)}", says="OffsetOutOfRangeException")


def measure(kafka):
    topic = kafka.topic("measured", 3)
    rate = r"10000 records sent, [\d.]+ records/sec .* 99\.9th"
    produce = kafka.tool("kafka-producer-perf-test")
    produce("10,000 records", f"--topic {topic} --num-records 10000 --record-size 200 --throughput -1", says=rate)
    produce(
        "acks=1, lz4, throttled",
        f"--topic {topic} --num-records 10000 --record-size 200 --throughput 5000 --command-property acks=1 compression.type=lz4 "
        "enable.idempotence=false",
        says=rate,
    )
    produce(
        "in transactions",
        f"--topic {topic} --num-records 10000 --record-size 200 --throughput -1 --transactional-id p --transaction-duration-ms 100",
        says=rate,
        ours={"code": 1, "says": "Transactional Id authorization failed", "lacks": "records sent"},
        why=NO_TRANSACTIONS,
    )
    consume = kafka.tool("kafka-consumer-perf-test")
    consume("20,000 records", f"--topic {topic} --num-records 20000 --timeout 30000", says=r"^\d{4}-.*, 2\d{4}, ")
    consume(
        "--show-detailed-stats",
        f"--topic {topic} --num-records 20000 --timeout 30000 --show-detailed-stats --reporting-interval 100 --hide-header",
        says=r"^\d{4}-",
    )
    latency = kafka.tool("kafka-e2e-latency", "{servers} ")
    for acks in ("1", "all"):
        latency(
            f"500 records, acks={acks}",
            f"{kafka.topic(f'latency-{acks}')} 500 {acks} 100",
            says=[r"Avg latency: [\d.]+ ms", r"Percentiles: 50th = \d+"],
        )


def verifiable(kafka):
    topic = kafka.topic("verifiable", 3)
    produce, consume = kafka.tool("kafka-verifiable-producer"), kafka.tool("kafka-verifiable-consumer")

    def all_acknowledged(said):
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        sent = {(event["partition"], event["offset"]) for event in events if event["name"] == "producer_send_success"}
        return None if len(sent) == 1000 else f"{len(sent)} places of 1,000 records"

    produce(
        "1,000 records",
        f"--topic {topic} --max-messages 1000 --repeating-keys 10",
        says='"sent":1000.*"acked":1000|"acked":1000.*"sent":1000',
        check=all_acknowledged,
    )
    produce("acks=1", f"--topic {topic} --max-messages 500 --acks 1", says='"acked":500')
    for assignor in ("Range", "RoundRobin", "Sticky", "CooperativeSticky"):
        consume(
            assignor,
            f"--topic {topic} --group-id {topic}-{assignor} --max-messages 1500 --assignment-strategy org.apache.kafka.clients.consumer.{assignor}Assignor",
            says=['"name":"partitions_assigned"', '"name":"offsets_committed".*"success":true', '"name":"shutdown_complete"'],
            lacks='"success":false',
        )
    consume(
        "static", f"--topic {topic} --group-id {topic}-static --group-instance-id i --max-messages 1500", says='"name":"shutdown_complete"'
    )
    consume(
        "group.protocol=consumer",
        f"--topic {topic} --group-id {topic}-consumer --group-protocol consumer --max-messages 1500",
        says='"name":"shutdown_complete"',
        ours={"says": "UnsupportedVersionException"},
        why="groups whose brokers assign are not built yet",
    )
