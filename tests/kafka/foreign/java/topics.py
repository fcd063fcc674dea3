"""Topics and settings: kafka-topics, kafka-configs."""


def look(kafka):
    describe(kafka, create(kafka))
    change(kafka)
    delete(kafka)
    settings_of_topics(kafka)
    settings_of_others(kafka)


def create(kafka):
    tool, topic = kafka.tool("kafka-topics"), kafka.name("topics")
    shape = f"--partitions 3 --replication-factor {kafka.replicas}"
    tool(
        "create",
        f"--create --topic {topic} {shape} --config retention.ms=3600000 --config max.message.bytes=200000",
        says=f"Created topic {topic}\\.",
    )
    tool("create again", f"--create --topic {topic} {shape}", code=1, says="TopicExistsException")
    tool("create again, --if-not-exists", f"--create --if-not-exists --topic {topic} {shape}", lacks="ERROR")
    tool("create a name that is none", "--create --topic 'a b'", code=1, says="InvalidTopicException")
    tool("create with the defaults", f"--create --topic {topic}-default", says=f"Created topic {topic}-default\\.")
    tool("create with no partitions", f"--create --topic {topic}-none --partitions 0", code=1)
    tool(
        "create with an unknown setting", f"--create --topic {topic}-x --config nosuch=1", code=1, says="Unknown topic config name: nosuch"
    )
    tool(
        "create with a wrong setting",
        f"--create --topic {topic}-x --config retention.ms=-7",
        code=1,
        says="InvalidConfigurationException|ConfigException",
    )
    tool(
        "create beyond the nodes",
        f"--create --topic {topic}-7 --replication-factor 7",
        code=1,
        says="InvalidReplicationFactorException",
        ours={"code": 0, "says": "Created topic"},
        why="more replicas than nodes are taken, and made when nodes come",
    )
    tool(
        "create with an assignment",
        f"--create --topic {topic}-placed --replica-assignment 1,1",
        says="Created topic",
        ours={"code": 1, "says": "InvalidReplicaAssignmentException.*placed by shards"},
        why="replicas are placed by shards",
    )
    tool(
        "create a compacted one",
        f"--create --topic {topic}-compact --config cleanup.policy=compact",
        says="Created topic",
        ours={"code": 1, "says": "compaction is not built yet"},
        why="there is no compaction yet",
    )
    return topic


def describe(kafka, topic):
    tool = kafka.tool("kafka-topics")
    one = f"--describe --topic {topic}"
    partition = rf"^\tTopic: {topic}\tPartition: %s\tLeader: \d+\tReplicas: (\d+,?){{{kafka.replicas}}}\tIsr: (\d+,?){{{kafka.replicas}}}\t"
    said = tool(
        "describe",
        one,
        says=[
            rf"^Topic: {topic}\tTopicId: \S{{22}}\tPartitionCount: 3\tReplicationFactor: {kafka.replicas}\t",
            r"Configs: .*max\.message\.bytes=200000",
            r"Configs: .*retention\.ms=3600000",
        ]
        + [partition % n for n in range(3)],
    )
    tool("describe by its id", f"--describe --topic-id {said.partition('TopicId: ')[2][:22]}", says=partition % 2)
    tool("describe what is not there", f"--describe --topic {topic}-nosuch", code=1, says="does not exist as expected")
    tool("describe what is not there, --if-exists", f"--describe --if-exists --topic {topic}-nosuch", lacks="ERROR")
    tool(
        "describe --topics-with-overrides",
        "--describe --topics-with-overrides",
        says=f"Topic: {topic}\t.*retention\\.ms=3600000",
        lacks="Partition: ",
    )
    for ill in ("under-replicated", "unavailable", "under-min-isr"):
        tool(f"describe --{ill}-partitions", f"{one} --{ill}-partitions", lacks=".")
    tool(
        "describe --at-min-isr-partitions",
        f"{one} --at-min-isr-partitions",
        says=partition % 0 if kafka.replicas == 1 or not kafka.is_ours else (),
        lacks="ERROR",
    )
    tool("list", "--list", says=[f"^{topic}$", f"^{topic}-default$"])
    tool(
        "list --exclude-internal with a pattern",
        f"--list --exclude-internal --topic '{topic}.*'",
        says=f"^{topic}$",
        lacks="__consumer_offsets",
    )


def change(kafka):
    tool, topic = kafka.tool("kafka-topics"), kafka.topic("more", partitions=2)
    tool("alter --partitions", f"--alter --topic {topic} --partitions 4", lacks="ERROR")
    tool("describe what was altered", f"--describe --topic {topic}", says="PartitionCount: 4")
    tool("alter to fewer", f"--alter --topic {topic} --partitions 3", code=1, says="InvalidPartitionsException")
    tool("alter to as many", f"--alter --topic {topic} --partitions 4", code=1, says="InvalidPartitionsException")
    tool("alter what is not there", f"--alter --topic {topic}-nosuch --partitions 4", code=1, says="does not exist as expected")
    tool(
        "alter with an assignment",
        f"--alter --topic {topic} --partitions 5 --replica-assignment 1,1,1,1,1",
        lacks="ERROR",
        ours={"code": 1, "lacks": (), "says": "InvalidReplicaAssignmentException"},
        why="replicas are placed by shards",
    )


def delete(kafka):
    tool, topic = kafka.tool("kafka-topics"), kafka.topic("gone")
    tool("delete", f"--delete --topic {topic}", lacks="ERROR")
    tool("list without it", "--list", lacks=f"^{topic}$")
    tool("delete again", f"--delete --topic {topic}", code=1, says="does not exist as expected")
    tool("delete again, --if-exists", f"--delete --if-exists --topic {topic}", lacks="ERROR")
    kafka.topic("gone-1"), kafka.topic("gone-2")
    tool("delete with a pattern", f"--delete --topic '{topic}-[12]'", lacks="ERROR")
    tool("list without them", "--list", lacks=f"^{topic}")


def settings_of_topics(kafka):
    tool, topic = kafka.tool("kafka-configs"), kafka.topic("settings")
    one = f"--entity-type topics --entity-name {topic}"
    tool(
        "alter --add-config",
        f"--alter {one} --add-config retention.ms=7200000,max.message.bytes=300000,segment.bytes=10485760",
        says="Completed updating config",
    )
    tool(
        "describe",
        f"--describe {one}",
        says=[r"retention\.ms=7200000 .*DYNAMIC_TOPIC_CONFIG:retention\.ms=7200000", r"max\.message\.bytes=300000"],
    )
    tool(
        "describe --all",
        f"--describe {one} --all",
        says=[
            r"retention\.ms=7200000",
            r"cleanup\.policy=delete",
            r"compression\.type=producer",
            r"retention\.bytes=-1",
            r"min\.insync\.replicas=\d",
            r"message\.timestamp\.type=CreateTime",
        ],
    )
    tool("alter --delete-config", f"--alter {one} --delete-config retention.ms", says="Completed updating config")
    tool("describe without it", f"--describe {one}", says=r"max\.message\.bytes=300000", lacks=r"retention\.ms=7200000")
    tool(
        "alter from a file",
        f"--alter {one} --add-config-file {kafka.file('settings.properties', 'retention.bytes=1000000000')}",
        says="Completed updating config",
    )
    tool("describe what the file said", f"--describe {one}", says=r"retention\.bytes=1000000000")
    tool("alter an unknown setting", f"--alter {one} --add-config nosuch=1", code=1, says="InvalidConfigurationException.*nosuch")
    tool(
        "alter to a wrong value",
        f"--alter {one} --add-config retention.ms=soon",
        code=1,
        says="InvalidConfigurationException|ConfigException",
    )
    tool(
        "alter to compaction",
        f"--alter {one} --add-config cleanup.policy=compact",
        says="Completed updating config",
        ours={"code": 1, "says": "compaction is not built yet"},
        why="there is no compaction yet",
    )
    tool("delete what was not set", f"--alter {one} --delete-config flush.ms", says="Completed updating config")
    tool(
        "alter what is not there",
        f"--alter --entity-type topics --entity-name {topic}-nosuch --add-config retention.ms=7",
        code=1,
        says="UnknownTopicOrPartition|does not exist|does not host",
    )
    tool("describe all topics", "--describe --entity-type topics", says=f"Dynamic configs for topic {topic} are")


def settings_of_others(kafka):
    tool = kafka.tool("kafka-configs")
    node = kafka.said("kafka-cluster", f"list-endpoints --bootstrap-server {kafka.servers}").splitlines()[-1].split()[0]
    broker = f"--entity-type brokers --entity-name {node}"
    absent = {"code": 1, "says": "UnsupportedVersionException|InvalidRequestException|InvalidConfigurationException"}
    tool("describe a broker", f"--describe {broker}", says=f"Dynamic configs for broker {node} are")
    tool("describe a broker, --all", f"--describe {broker} --all", says=["All configs for broker", r"log\.dirs=\S+", r"log\.retention"])
    tool(
        "alter a broker",
        f"--alter {broker} --add-config log.cleaner.threads=2",
        says="Completed updating config",
        ours=absent,
        why="a node's settings are in its file",
    )
    tool(
        "alter all brokers",
        "--alter --entity-type brokers --entity-default --add-config log.cleaner.threads=2",
        says="Completed updating",
        ours=absent,
        why="a node's settings are in its file",
    )
    tool(
        "describe loggers",
        f"--describe --entity-type broker-loggers --entity-name {node}",
        says="kafka.*=INFO|kafka.*=WARN|root=",
        ours=absent,
        why="`log.level` in a node's file is how much it logs",
    )
    tool("describe quotas", "--describe --entity-type clients", lacks="ERROR", ours=absent | {"lacks": ()}, why="there are no quotas")
    tool(
        "alter quotas",
        "--alter --entity-type clients --entity-name c --add-config producer_byte_rate=1000000",
        says="Completed updating config",
        ours=absent,
        why="there are no quotas",
    )
    tool(
        "describe users",
        "--describe --entity-type users",
        lacks="ERROR",
        ours=absent | {"lacks": ()},
        why="there is no SASL yet, so that there are no users",
    )
    tool(
        "describe a group",
        "--describe --entity-type groups --entity-name g",
        says="Dynamic configs for group g are|doesn't have dynamic config",
        ours=absent,
        why="settings of groups are for groups whose brokers assign",
    )
