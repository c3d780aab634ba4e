package exfilwatch.peers;

import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** Runs a topology of Kafka Streams with the settings of somebody who has tuned it. */
final class StreamsRuntime {
  private static final Duration CLOSE_MAX = Duration.ofMinutes(2);

  private StreamsRuntime() {}

  static void run(Job job, Topology topology) {
    KafkaStreams streams = new KafkaStreams(topology, properties(job));
    streams.setUncaughtExceptionHandler(
        error -> {
          Progress.fail(error);
          return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
    Progress.dropped = () -> dropped(streams);
    Progress.end = () -> streams.close(CLOSE_MAX);
    streams.start();
  }

  private static Properties properties(Job job) {
    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, job.id());
    properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.kafka());
    properties.put(StreamsConfig.STATE_DIR_CONFIG, job.folder());
    properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Job.PARALLELISM);
    // A commit costs a flush of all stores and, exactly once, a transaction; the defaults are 30 s
    // and 100 ms. This is how often the others save.
    properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Job.CHECKPOINT_MS);
    properties.put(
        StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
        job.exactlyOnce() ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
    properties.put(StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 60_000);
    // Takes up changes of a key between two commits, so that the changelog has the last only.
    properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 1L << 30);
    // A pause of a partition for each thousand records, the default, is much at these rates.
    properties.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 20_000);
    properties.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
    Clients.CONSUMER.forEach(
        (name, value) -> properties.put(StreamsConfig.consumerPrefix(name), value));
    Clients.PRODUCER.forEach(
        (name, value) -> properties.put(StreamsConfig.producerPrefix(name), value));
    return properties;
  }

  /** Records that were too late for their window, over all tasks. */
  private static long dropped(KafkaStreams streams) {
    double sum =
        streams.metrics().entrySet().stream()
            .filter(metric -> metric.getKey().name().equals("dropped-records-total"))
            .mapToDouble(metric -> ((Number) metric.getValue().metricValue()).doubleValue())
            .sum();
    return (long) sum;
  }
}
