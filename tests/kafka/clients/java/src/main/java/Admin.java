import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Java's admin client. */
final class Admin {
    private final Client client;
    private final String topic;
    private final String group;

    Admin(Client client) {
        this.client = client;
        this.topic = client.arg("topic");
        this.group = client.arg("group");
    }

    void run(String command) throws Exception {
        try (var admin = org.apache.kafka.clients.admin.Admin.create(Map.of("bootstrap.servers", client.arg("servers")))) {
            switch (command) {
                case "create-topic" -> {
                    int partitions = Integer.parseInt(client.arg("partition"));
                    NewTopic asked = new NewTopic(topic, Optional.of(partitions), Optional.empty()).configs(configs());
                    done(admin.createTopics(List.of(asked)).all());
                }
                case "topics" -> Client.tell(Map.of("topics", new TreeSet<>(done(admin.listTopics().names()))));
                case "describe-topic" -> describeTopic(admin);
                case "describe-configs" -> {
                    var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                    Map<String, String> found = new TreeMap<>();
                    var entries = done(admin.describeConfigs(List.of(resource)).all()).get(resource).entries();
                    entries.forEach(entry -> found.put(entry.name(), entry.value()));
                    Client.tell(Map.of("configs", found));
                }
                case "delete-records" -> {
                    var partition = new TopicPartition(topic, Integer.parseInt(client.arg("partition")));
                    var before = RecordsToDelete.beforeOffset(Long.parseLong(client.arg("before")));
                    var deleted = admin.deleteRecords(Map.of(partition, before)).lowWatermarks().get(partition);
                    Client.tell(Map.of("low", done(deleted).lowWatermark()));
                }
                case "delete-topic" -> done(admin.deleteTopics(List.of(topic)).all());
                case "groups" -> {
                    var names = done(admin.listConsumerGroups().all()).stream().map(found -> found.groupId()).sorted().toList();
                    Client.tell(Map.of("groups", names));
                }
                case "describe-group" -> {
                    var found = done(admin.describeConsumerGroups(List.of(group)).all()).get(group);
                    String state = found.state().name().replace("_", "").toLowerCase();
                    Client.tell(Map.of("group", group, "state", state, "members", found.members().size()));
                }
                case "delete-group" -> done(admin.deleteConsumerGroups(List.of(group)).all());
                default -> throw new IllegalArgumentException("there is no command " + command);
            }
        }
    }

    private void describeTopic(org.apache.kafka.clients.admin.Admin admin) throws Exception {
        var found = done(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        var partitions = found.partitions().stream().map(partition -> Map.of(
            "partition", partition.partition(), "leader", partition.leader().id(),
            "replicas", partition.replicas().stream().map(Node::id).toList(),
            "isr", partition.isr().stream().map(Node::id).toList())).toList();
        Client.tell(Map.of("topic", topic, "partitions", partitions));
    }

    private Map<String, String> configs() {
        Map<String, String> found = new HashMap<>();
        String text = client.arg("configs");
        if (text != null && !text.isEmpty()) {
            for (String setting : text.split(",")) {
                String[] pair = setting.split("=", 2);
                found.put(pair[0], pair[1]);
            }
        }
        return found;
    }

    private <T> T done(KafkaFuture<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }
}
