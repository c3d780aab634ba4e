import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.*;

/** Follows the alerts, each once, and knows which findings are open: BROKERS TOPIC GROUP. */
public class Consumer {
    /** Ids remembered; repeats come within minutes of the first. */
    private static final int SEEN_MAX = 100_000;

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("group.id", args[2]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("isolation.level", "read_committed");
        settings.put("enable.auto.commit", "false"); // only what was handled counts as read
        ObjectMapper json = new ObjectMapper();
        Map<String, Boolean> seen = new LinkedHashMap<>() {
            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
                return size() > SEEN_MAX;
            }
        };
        Map<String, JsonNode> findings = new HashMap<>();
        try (KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(
                settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (true) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    byte[] id = record.headers().lastHeader("ce_id").value();
                    if (seen.put(new String(id, StandardCharsets.UTF_8), true) != null) {
                        continue;
                    }
                    JsonNode alert = json.readTree(record.value());
                    JsonNode info = alert.get("finding_info");
                    String finding = info.get("uid").asText();
                    if (alert.get("activity_id").asInt() == 3) { // Close
                        findings.remove(finding);
                    } else { // Create, Update
                        findings.put(finding, alert);
                    }
                    System.out.printf("%s %s %s %s %d%n", alert.get("activity_name").asText(),
                            info.get("analytic").get("uid").asText(), record.key(),
                            alert.get("severity").asText(), findings.size());
                }
                consumer.commitSync();
            }
        }
    }
}
