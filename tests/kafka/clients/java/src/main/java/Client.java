import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Java's clients: producing and consuming. {@link Admin} has the rest. */
public final class Client {
    static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    final Map<String, String> args = new HashMap<>();

    public static void main(String[] words) throws Exception {
        Client client = new Client();
        for (int at = 1; at < words.length; at += 2) {
            client.args.put(words[at].substring(2), words[at + 1]);
        }
        switch (words[0]) {
            case "about" -> tell(Map.of("client", "java", "version", version(), "runtime", System.getProperty("java.version")));
            case "produce" -> client.produce();
            case "consume" -> client.consume();
            case "offsets" -> client.offsets();
            case "group" -> client.group();
            case "committed" -> client.committed();
            default -> new Admin(client).run(words[0]);
        }
    }

    private static String version() throws java.io.IOException {
        Properties found = new Properties();
        try (var resource = KafkaConsumer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            found.load(resource);
        }
        return found.getProperty("version");
    }

    static synchronized void tell(Object line) {
        OUT.println(GSON.toJson(line));
    }

    String arg(String name) {
        return args.get(name);
    }

    long timeoutMs() {
        return (long) (Double.parseDouble(args.getOrDefault("timeout", "60")) * 1000);
    }

    static List<Long> numbers(String text) {
        return text == null || text.isEmpty() ? List.of() : Stream.of(text.split(",")).map(Long::valueOf).toList();
    }

    private List<TopicPartition> partitions() {
        return numbers(arg("partitions")).stream().map(number -> new TopicPartition(arg("topic"), number.intValue())).toList();
    }

    private static byte[] decode(JsonElement text) {
        return text.isJsonNull() ? null : Base64.getDecoder().decode(text.getAsString());
    }

    private static JsonElement encode(byte[] data) {
        return data == null ? JsonNull.INSTANCE : GSON.toJsonTree(Base64.getEncoder().encodeToString(data));
    }

    private void produce() throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arg("servers"));
        settings.put("compression.type", arg("codec"));
        settings.put("enable.idempotence", arg("idempotent"));
        settings.put("acks", "all");
        settings.put("linger.ms", "50");
        settings.put("delivery.timeout.ms", String.valueOf(timeoutMs()));
        settings.put("request.timeout.ms", "10000");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                JsonObject record = JsonParser.parseString(line).getAsJsonObject();
                List<Header> headers = new ArrayList<>();
                for (JsonElement header : record.getAsJsonArray("headers")) {
                    JsonArray pair = header.getAsJsonArray();
                    headers.add(new RecordHeader(pair.get(0).getAsString(), decode(pair.get(1))));
                }
                sent.add(producer.send(new ProducerRecord<>(arg("topic"), record.get("partition").getAsInt(),
                    record.get("timestamp").getAsLong(), decode(record.get("key")), decode(record.get("value")), headers)));
            }
            for (Future<RecordMetadata> future : sent) {
                RecordMetadata acknowledged = future.get(timeoutMs(), TimeUnit.MILLISECONDS);
                tell(Map.of("partition", acknowledged.partition(), "offset", acknowledged.offset()));
            }
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arg("servers"));
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "none");
        settings.put("fetch.max.wait.ms", "100");
        if (arg("group") != null) {
            settings.put("group.id", arg("group"));
        }
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static void tellRecord(ConsumerRecord<byte[], byte[]> record, boolean isEvent) {
        JsonObject line = new JsonObject();
        if (isEvent) {
            line.addProperty("event", "record");
        }
        line.addProperty("partition", record.partition());
        line.addProperty("offset", record.offset());
        line.addProperty("timestamp", record.timestamp());
        line.add("key", encode(record.key()));
        line.add("value", encode(record.value()));
        JsonArray headers = new JsonArray();
        for (Header header : record.headers()) {
            JsonArray pair = new JsonArray();
            pair.add(header.key());
            pair.add(encode(header.value()));
            headers.add(pair);
        }
        line.add("headers", headers);
        tell(line);
    }

    private void consume() {
        try (var consumer = consumer(Map.of())) {
            List<TopicPartition> partitions = partitions();
            String from = arg("from");
            consumer.assign(partitions);
            if (from.equals("beginning")) {
                consumer.seekToBeginning(partitions);
            } else if (from.startsWith("time:")) {
                Map<TopicPartition, Long> asked = new HashMap<>();
                partitions.forEach(partition -> asked.put(partition, Long.valueOf(from.substring(5))));
                consumer.offsetsForTimes(asked).forEach((partition, found) -> consumer.seek(partition, found.offset()));
            } else {
                partitions.forEach(partition -> consumer.seek(partition, Long.parseLong(from)));
            }
            boolean seeks = arg("seek") != null;
            int left = Integer.parseInt(arg("count"));
            long until = System.currentTimeMillis() + timeoutMs();
            while (left > 0 && System.currentTimeMillis() < until) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (seeks) {
                        seeks = false;
                        consumer.seek(new TopicPartition(record.topic(), record.partition()), Long.parseLong(arg("seek")));
                        break;
                    }
                    if (left-- > 0) {
                        tellRecord(record, false);
                    }
                }
            }
            failIfMissing(left);
        }
    }

    private static void failIfMissing(int left) {
        if (left > 0) {
            throw new IllegalStateException(left + " records are missing");
        }
    }

    private void offsets() {
        try (var consumer = consumer(Map.of())) {
            List<TopicPartition> partitions = partitions();
            var beginnings = consumer.beginningOffsets(partitions);
            var ends = consumer.endOffsets(partitions);
            for (TopicPartition partition : partitions) {
                JsonArray at = new JsonArray();
                JsonArray times = new JsonArray();
                for (Long ms : numbers(arg("times"))) {
                    var found = consumer.offsetsForTimes(Map.of(partition, ms)).get(partition);
                    at.add(found == null ? JsonNull.INSTANCE : GSON.toJsonTree(found.offset()));
                    times.add(found == null ? JsonNull.INSTANCE : GSON.toJsonTree(found.timestamp()));
                }
                tell(Map.of("partition", partition.partition(), "beginning", beginnings.get(partition), "end", ends.get(partition),
                    "at", at, "times", times));
            }
        }
    }

    private static List<Integer> numbersOf(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).sorted().toList();
    }

    private void group() {
        Map<String, String> more = new HashMap<>(Map.of("auto.offset.reset", "earliest", "session.timeout.ms", "30000",
            "heartbeat.interval.ms", "1000", "max.poll.records", "50"));
        String assignor = arg("assignor").equals("range") ? "RangeAssignor" : "CooperativeStickyAssignor";
        more.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
        if (arg("instance") != null) {
            more.put("group.instance.id", arg("instance"));
        }
        int count = Integer.parseInt(args.getOrDefault("count", "0"));
        int left = count;
        AtomicBoolean ended = endOfInput();
        long until = System.currentTimeMillis() + timeoutMs();
        try (var consumer = consumer(more)) {
            consumer.subscribe(List.of(arg("topic")), new Listener());
            while (!ended.get() && System.currentTimeMillis() < until && (count == 0 || left > 0)) {
                Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
                Map<Integer, Long> offsets = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (count > 0 && left-- <= 0) {
                        break;
                    }
                    tellRecord(record, true);
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    done.put(partition, new OffsetAndMetadata(record.offset() + 1, "up to " + record.offset()));
                    offsets.put(record.partition(), record.offset() + 1);
                }
                if (!done.isEmpty()) {
                    consumer.commitSync(done);
                    tell(Map.of("event", "committed", "offsets", offsets));
                }
            }
        }
        failIfMissing(left);
    }

    private static final class Listener implements ConsumerRebalanceListener {
        private final TreeSet<Integer> held = new TreeSet<>();

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            held.addAll(numbersOf(partitions));
            tell(Map.of("event", "assigned", "partitions", held));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            held.removeAll(numbersOf(partitions));
            tell(Map.of("event", "revoked", "partitions", numbersOf(partitions)));
        }
    }

    private static AtomicBoolean endOfInput() {
        AtomicBoolean ended = new AtomicBoolean();
        Thread reader = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException gone) {
                // The same as its end.
            }
            ended.set(true);
        });
        reader.setDaemon(true);
        reader.start();
        return ended;
    }

    private void committed() {
        try (var consumer = consumer(Map.of())) {
            for (TopicPartition partition : partitions()) {
                OffsetAndMetadata found = consumer.committed(java.util.Set.of(partition)).get(partition);
                JsonObject line = new JsonObject();
                line.addProperty("partition", partition.partition());
                line.addProperty("offset", found == null ? null : found.offset());
                line.addProperty("metadata", found == null ? null : found.metadata());
                tell(line);
            }
        }
    }
}
