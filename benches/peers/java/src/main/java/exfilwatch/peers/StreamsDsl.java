package exfilwatch.peers;

import java.time.Duration;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.WindowStore;

/** Kafka Streams' DSL as its documentation teaches it: one window of an hour, and its sum. */
final class StreamsDsl {
  private static final Duration HOUR = Duration.ofHours(1);

  /** Which of the limits is that of an hour. */
  private static final int HOUR_LIMIT = 1;

  /**
   * How late an event may come. While they catch up, partitions drift apart by as much as one is
   * fetched ahead of the other: all of the bench's two hours, so that nothing is dropped.
   */
  private static final Duration GRACE = Duration.ofHours(2);

  private StreamsDsl() {}

  static void run(Job job) {
    StreamsBuilder builder = new StreamsBuilder();
    Serde<Read> reads = Serdes.serdeFrom((topic, read) -> null, new ReadDeserializer());
    KGroupedStream<String, Long> byPrincipal =
        builder.stream(
                job.input(),
                Consumed.with(Serdes.ByteArray(), reads)
                    .withTimestampExtractor((record, before) -> ((Read) record.value()).timeMs))
            .map((key, read) -> rows(read))
            .groupByKey(Grouped.with(Serdes.String(), counted()));
    KTable<Windowed<String>, Long> sums =
        windowed(job, byPrincipal)
            .aggregate(
                () -> 0L,
                (principal, rows, sum) -> sum + rows,
                Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("sums")
                    .withValueSerde(Serdes.Long()));
    long limit = job.limits()[HOUR_LIMIT];
    sums.toStream()
        .filter((key, sum) -> sum != null && sum > limit)
        .map((key, sum) -> alert(key))
        .to(job.output(), Produced.with(Serdes.String(), Serdes.String()));
    StreamsRuntime.run(job, builder.build());
  }

  private static TimeWindowedKStream<String, Long> windowed(
      Job job, KGroupedStream<String, Long> reads) {
    // The bounds of a sliding window are both within it.
    Duration inclusive = HOUR.minusMillis(1);
    TimeWindows hour = TimeWindows.ofSizeAndGrace(HOUR, GRACE);
    return switch (job.peer()) {
      case "dsl-sliding" ->
          reads.windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(inclusive, GRACE));
      case "dsl-hop-12m" -> reads.windowedBy(hour.advanceBy(Duration.ofMinutes(12)));
      default -> reads.windowedBy(hour.advanceBy(Duration.ofMinutes(1)));
    };
  }

  private static KeyValue<String, Long> rows(Read read) {
    Progress.mine().read();
    return KeyValue.pair(read.principal, read.rows);
  }

  /** An event counts as counted when its rows are decoded, one ahead of what is being added. */
  private static Serde<Long> counted() {
    Deserializer<Long> plain = new LongDeserializer();
    return Serdes.serdeFrom(
        new LongSerializer(),
        (topic, bytes) -> {
          Long rows = plain.deserialize(topic, bytes);
          Progress.mine().counted(rows);
          return rows;
        });
  }

  private static KeyValue<String, String> alert(Windowed<String> key) {
    String alert = Alert.json(key.key(), "1h", key.window().end());
    return KeyValue.pair(key.key(), alert);
  }
}
