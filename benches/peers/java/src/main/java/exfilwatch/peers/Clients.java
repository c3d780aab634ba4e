package exfilwatch.peers;

import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;

/** What every peer asks of Kafka's clients: few large requests instead of many small ones. */
final class Clients {
  /** A topic is read much faster than it was filled, so there is always more to fetch. */
  static final Map<String, String> CONSUMER =
      Map.of(
          ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, "8388608",
          ConsumerConfig.FETCH_MIN_BYTES_CONFIG, "262144",
          ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, "100",
          ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "10000",
          ConsumerConfig.RECEIVE_BUFFER_CONFIG, "1048576");

  /** Larger batches cost less for each event and compress better. */
  static final Map<String, String> PRODUCER =
      Map.of(
          ProducerConfig.BATCH_SIZE_CONFIG, "524288",
          ProducerConfig.LINGER_MS_CONFIG, "100",
          ProducerConfig.BUFFER_MEMORY_CONFIG, "134217728",
          ProducerConfig.COMPRESSION_TYPE_CONFIG, "lz4",
          ProducerConfig.SEND_BUFFER_CONFIG, "1048576");

  private Clients() {}
}
