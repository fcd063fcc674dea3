"""The cluster: what it speaks, who is in it, where replicas lie; and the tools of what is not there."""

import json
import re


def look(kafka):
    speaks(kafka)
    members(kafka)
    places(kafka)
    leaders(kafka)
    absent(kafka)


def speaks(kafka):
    def all_known(said):
        unknown = [line for line in said.splitlines() if "UNKNOWN(" in line]
        return f"it announces what no client knows: {unknown}" if unknown else None

    kafka.tool("kafka-broker-api-versions")(
        "what is spoken",
        "",
        check=all_known,
        says=[
            r"\(id: \d+ rack: \S+ isFenced: false\) -> \(|\(id: \d+ rack: null\S*\) -> \(",
            r"Produce\(0\): \d+ to 1[23]",
            r"Fetch\(1\): 4 to 1[78]",
            r"Metadata\(3\): 0 to 1[23]",
        ],
    )
    kafka.tool("client-compatibility-test")(
        "consumer, producer and admin client",
        f"--topic {kafka.topic('compatible', 1)} --offsets-for-times-supported True --cluster-id-supported True "
        f"--expect-record-too-large-exception False --num-cluster-nodes {kafka.nodes} --create-topics-supported True "
        # Apache Kafka answers that it has no authorizer.
        f"--describe-acls-supported {not kafka.is_ours} --describe-configs-supported True --idempotent-producer-supported True",
        says="SUCCESS",
        patience=150,
    )


def members(kafka):
    tool = kafka.tool("kafka-cluster", "")
    at = f"--bootstrap-server {kafka.servers}"
    tool("cluster-id", f"cluster-id {at}", says=r"Cluster ID: \S{10,}")
    tool("list-endpoints", f"list-endpoints {at}", says=r"^\d+\s+127\.0\.0\.1\s+\d+")
    tool(
        "unregister",
        f"unregister {at} --id 77",
        code=1,
        says="BrokerIdNotRegistered",
        ours={"code": 0, "says": "does not support the broker unregistration"},
        why="`stratalog cluster remove-node` does that",
    )
    features = kafka.tool("kafka-features")
    features(
        "describe",
        "describe",
        says="metadata.version",
        ours={"says": ()},
        why="there are no features: one version at a time is what a cluster speaks",
    )
    features(
        "upgrade",
        "upgrade --feature transaction.version=2",
        ours={"code": 1, "says": "UnsupportedVersionException|not support"},
        why="there are no features",
    )
    quorum = kafka.tool("kafka-metadata-quorum")
    none = {"code": 1, "says": "UnsupportedVersionException|not support"}
    quorum(
        "describe --status",
        "describe --status",
        says="LeaderId",
        ours=none,
        why="there is no KRaft: `stratalog cluster status` shows who leads what",
    )
    quorum("describe --replication", "describe --replication", says="Leader", ours=none, why="there is no KRaft")


def places(kafka):
    topic = kafka.topic("placed", 2, 10)

    def described(said):
        told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        directories = [directory for broker in told["brokers"] for directory in broker["logDirs"]]
        replicas = [each for directory in directories for each in directory["partitions"]]
        if any(directory["error"] for directory in directories) or len(told["brokers"]) != kafka.nodes:
            return "a node or a directory has an error, or is not told"
        return (
            None
            if len(replicas) == 2 * kafka.replicas and all(each["size"] > 0 for each in replicas)
            else "the replicas are not all told with a size"
        )

    kafka.tool("kafka-log-dirs")("describe a topic", f"--describe --topic-list {topic}", check=described)
    kafka.tool("kafka-log-dirs")("describe all", "--describe", says='"version":1')


def leaders(kafka):
    topic = kafka.topic("led", 2)
    tool = kafka.tool("kafka-leader-election")
    done = "Valid replica already elected for partitions|Successfully completed leader election"
    tool("preferred, a partition", f"--election-type preferred --topic {topic} --partition 0", says=done)
    tool("preferred, all", "--election-type preferred --all-topic-partitions", says=f"{done}|^$", lacks="Error completing")
    tool("unclean", f"--election-type unclean --topic {topic} --partition 1", says=done)
    tool(
        "a topic that is not there",
        f"--election-type preferred --topic {topic}-nosuch --partition 0",
        code=1,
        says="UnknownTopicOrPartitionException|does not exist",
    )
    moves(kafka, topic)


def moves(kafka, topic):
    tool = kafka.tool("kafka-reassign-partitions")
    brokers = sorted(
        set(re.findall(r"^(\d+)\s+127", kafka.said("kafka-cluster", f"list-endpoints --bootstrap-server {kafka.servers}"), re.M))
    )
    topics = kafka.file("topics.json", {"version": 1, "topics": [{"topic": topic}]})
    tool("list", "--list", says="No partition reassignments found")
    said = tool(
        "generate",
        f"--generate --topics-to-move-json-file {topics} --broker-list {','.join(brokers)}",
        says=["Current partition replica assignment", "Proposed"],
    )
    plans = [line for line in said.splitlines() if line.startswith('{"version"')]
    # The second is what it proposes; the first names directories, too.
    as_it_is = kafka.file("as-it-is.json", plans[1] if len(plans) > 1 else "{}")
    tool("execute what is so already", f"--execute --reassignment-json-file {as_it_is}", says="Successfully started partition reassignment")
    # Their order says here who leads.
    done = "is completed|is complete|but replica set is" if kafka.nodes > 1 else "is completed|is complete"
    tool("verify", f"--verify --reassignment-json-file {as_it_is}", says=[done, "Clearing broker-level throttles"])
    tool(
        "cancel",
        f"--cancel --reassignment-json-file {as_it_is}",
        says="None of the specified partition moves are active|Successfully cancelled",
    )
    other = {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [int(brokers[0])] if kafka.nodes > 1 else [999]}]}
    if kafka.nodes > 1:
        tool(
            "execute a move",
            f"--execute --reassignment-json-file {kafka.file('move.json', other)}",
            says="Successfully started partition reassignment",
            ours={"code": 1, "says": "stratalog cluster move"},
            why="`stratalog cluster move` moves replicas of shards",
        )
    else:
        tool(
            "execute a move to nobody",
            f"--execute --reassignment-json-file {kafka.file('move.json', other)}",
            code=1,
            says="InvalidReplicaAssignment|Unknown broker|not exist",
        )


def absent(kafka):
    none = {"code": 1, "says": "UnsupportedVersionException|not support"}
    topic = kafka.topic("absent")
    transactions, reason = kafka.tool("kafka-transactions"), "there are no transactions yet"
    transactions("list", "list", says="TransactionalId", ours=none, why=reason)
    transactions(
        "describe",
        "describe --transactional-id nosuch",
        code=1,
        says="could not be found",
        ours={"says": "FindCoordinator request .* failed"},
        why=reason,
    )
    transactions("describe-producers", f"describe-producers --topic {topic} --partition 0", says="ProducerId")
    transactions("find-hanging", f"find-hanging --topic {topic}", says="Topic")
    kafka.tool("kafka-acls")("list", "--list", code=1, says="SecurityDisabledException", ours=none, why="there are no ACLs")
    kafka.tool("kafka-delegation-tokens")(
        "describe",
        f"--describe --command-config {kafka.file('none.properties', '')}",
        code=1,
        says="DelegationTokenDisabled|not allowed|UnsupportedByAuthentication",
        ours=none,
        why="there are no delegation tokens",
    )
    kafka.tool("kafka-client-metrics")("list", "--list", lacks="ERROR", ours=none | {"lacks": ()}, why="clients' metrics are not taken")
