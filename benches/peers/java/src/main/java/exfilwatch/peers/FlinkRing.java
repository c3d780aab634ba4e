package exfilwatch.peers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * Flink's DataStream API as an expert would use it: one process function with a ring for each
 * principal, instead of four window operators that keep a sum for each window an event is in.
 */
final class FlinkRing {
  private FlinkRing() {}

  static void run(Job job) throws Exception {
    StreamExecutionEnvironment flink = environment(job);
    flink
        // Late or early is a matter of each principal's own ring; watermarks would cost and not
        // help.
        .fromSource(source(job), WatermarkStrategy.noWatermarks(), "reads")
        .keyBy(read -> read.principal, Types.STRING)
        .process(new Count(job.limits()))
        .sinkTo(sink(job));
    flink.execute();
  }

  static StreamExecutionEnvironment environment(Job job) {
    Configuration configuration = new Configuration();
    configuration.setString("execution.checkpointing.dir", "file://" + job.folder());
    // State on the heap: the quickest, and it fits.
    configuration.setString("state.backend.type", "hashmap");
    // Records are handed on as they are, not copied from operator to operator.
    configuration.setString("pipeline.object-reuse", "true");
    // Nothing may fall back to Kryo unnoticed.
    configuration.setString("pipeline.generic-types", "false");
    // Fuller and fewer buffers between the threads.
    configuration.setString("taskmanager.memory.segment-size", "128kb");
    configuration.setString("taskmanager.memory.network.min", "128mb");
    configuration.setString("taskmanager.memory.network.max", "128mb");
    configuration.setString("execution.buffer-timeout.interval", "100ms");
    StreamExecutionEnvironment flink =
        StreamExecutionEnvironment.createLocalEnvironment(Job.PARALLELISM, configuration);
    flink.enableCheckpointing(Job.CHECKPOINT_MS, CheckpointingMode.EXACTLY_ONCE);
    return flink;
  }

  private static KafkaSource<Read> source(Job job) {
    Properties properties = new Properties();
    properties.putAll(Clients.CONSUMER);
    return KafkaSource.<Read>builder()
        .setBootstrapServers(job.kafka())
        .setTopics(job.input())
        .setGroupId(job.id())
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setDeserializer(new Parse())
        .setProperties(properties)
        .build();
  }

  private static KafkaSink<String> sink(Job job) {
    return KafkaSink.<String>builder()
        .setBootstrapServers(job.kafka())
        .setRecordSerializer(
            KafkaRecordSerializationSchema.builder()
                .setTopic(job.output())
                .setValueSerializationSchema(new SimpleStringSchema())
                .build())
        .build();
  }

  /** Parses in the source's own thread, straight from the consumer's bytes. */
  private static final class Parse implements KafkaRecordDeserializationSchema<Read> {
    private transient ReadParser parser;
    private transient Read read;
    private transient Progress.Tally tally;

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Read> out)
        throws IOException {
      if (parser == null) {
        parser = new ReadParser();
        read = new Read();
        tally = Progress.tally();
      }
      parser.parse(record.value(), read);
      tally.read();
      out.collect(read);
    }

    @Override
    public TypeInformation<Read> getProducedType() {
      return ReadType.INSTANCE;
    }
  }

  /** Adds each read to its principal's ring. */
  private static final class Count extends KeyedProcessFunction<String, Read, String> {
    private final long[] limits;
    private transient ValueState<byte[]> rings;
    private transient Progress.Tally tally;

    Count(long[] limits) {
      this.limits = limits;
    }

    @Override
    public void open(OpenContext context) {
      var descriptor =
          new ValueStateDescriptor<>(
              "rings", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
      rings = getRuntimeContext().getState(descriptor);
      tally = Progress.tally();
    }

    @Override
    public void processElement(Read read, Context context, Collector<String> out)
        throws IOException {
      byte[] ring = rings.value();
      if (ring == null) {
        ring = Ring.empty(read.timeMs);
        rings.update(ring);
      }
      // In place and without `update`, a second look-up: while a checkpoint is written, the heap
      // backend hands out a copy that it has already put into the map.
      int passed = Ring.add(ring, read.timeMs, read.rows, limits);
      for (int window = 0; passed != 0; window++, passed >>= 1) {
        if ((passed & 1) != 0) {
          out.collect(Alert.json(read.principal, Ring.WINDOWS[window], read.timeMs));
        }
      }
      tally.counted(read.rows);
    }
  }
}
