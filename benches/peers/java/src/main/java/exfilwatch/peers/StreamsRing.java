package exfilwatch.peers;

import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams' Processor API as an expert would use it: events are written again by principal,
 * with the event time as the record's own and the rows as the value; then one ring for each
 * principal in a state store, which Streams keeps on a changelog topic.
 */
final class StreamsRing {
  private static final String RINGS = "rings";

  private StreamsRing() {}

  static void run(Job job) {
    String byPrincipal = job.id() + ".by-principal";
    Topology topology = new Topology();
    topology
        .addSource(
            "reads",
            Serdes.ByteArray().deserializer(),
            new ReadDeserializer(),
            job.input())
        .addProcessor("key", Key::new, "reads")
        .addSink("rekey", byPrincipal, Serdes.Bytes().serializer(), new LongSerializer(), "key")
        .addSource(
            "keyed", Serdes.Bytes().deserializer(), new LongDeserializer(), byPrincipal)
        .addProcessor("count", () -> new Count(job.limits()), "keyed")
        .addStateStore(rings(job), "count")
        .addSink("alerts", job.output(), new StringSerializer(), new StringSerializer(), "count");
    StreamsRuntime.run(job, topology);
  }

  private static StoreBuilder<KeyValueStore<Bytes, byte[]>> rings(Job job) {
    KeyValueBytesStoreSupplier kept =
        switch (job.peer()) {
          case "streams-hash" -> new HashStore.Supplier(RINGS);
          case "streams-tree" -> Stores.inMemoryKeyValueStore(RINGS);
          default -> Stores.persistentKeyValueStore(RINGS);
        };
    var builder = Stores.keyValueStoreBuilder(kept, Serdes.Bytes(), Serdes.ByteArray());
    // Only what lies on disk gains by a cache before it.
    return kept.get().persistent() ? builder.withCachingEnabled() : builder.withCachingDisabled();
  }

  /** From an event to whom it is of. */
  private static final class Key implements Processor<byte[], Read, Bytes, Long> {
    private final Progress.Tally tally = Progress.tally();
    private ProcessorContext<Bytes, Long> context;

    @Override
    public void init(ProcessorContext<Bytes, Long> context) {
      this.context = context;
    }

    @Override
    public void process(Record<byte[], Read> record) {
      Read read = record.value();
      Bytes key = Bytes.wrap(read.principal.getBytes(StandardCharsets.UTF_8));
      tally.read();
      context.forward(new Record<>(key, read.rows, read.timeMs));
    }
  }

  /** Adds each read to its principal's ring. */
  private static final class Count implements Processor<Bytes, Long, String, String> {
    private final Progress.Tally tally = Progress.tally();
    private final long[] limits;
    private ProcessorContext<String, String> context;
    private KeyValueStore<Bytes, byte[]> rings;

    Count(long[] limits) {
      this.limits = limits;
    }

    @Override
    public void init(ProcessorContext<String, String> context) {
      this.context = context;
      rings = context.getStateStore(RINGS);
    }

    @Override
    public void process(Record<Bytes, Long> record) {
      long rows = record.value();
      long timeMs = record.timestamp();
      byte[] ring = rings.get(record.key());
      if (ring == null) {
        ring = Ring.empty(timeMs);
      }
      int passed = Ring.add(ring, timeMs, rows, limits);
      rings.put(record.key(), ring);
      for (int window = 0; passed != 0; window++, passed >>= 1) {
        if ((passed & 1) != 0) {
          String principal = new String(record.key().get(), StandardCharsets.UTF_8);
          String alert = Alert.json(principal, Ring.WINDOWS[window], timeMs);
          context.forward(new Record<>(principal, alert, timeMs));
        }
      }
      tally.counted(rows);
    }
  }
}
