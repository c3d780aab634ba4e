package exfilwatch.peers;

import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.functions.ScalarFunction;

/** Flink SQL as its documentation teaches it: one window of an hour that hops by a fifth of it. */
final class FlinkSql {
  private static final int HOUR_LIMIT = 1;
  private static final String COUNTED =
      """
      CREATE TEMPORARY VIEW counted_events AS
      SELECT happened, principal.id AS who, counted(`rows`) AS more FROM events
      """;

  private FlinkSql() {}

  static void run(Job job) throws Exception {
    StreamExecutionEnvironment flink = FlinkRing.environment(job);
    StreamTableEnvironment tables = StreamTableEnvironment.create(flink);
    // Sums up before the shuffle, and wakes an operator for many rows at once.
    var configuration = tables.getConfig();
    configuration.set("table.optimizer.agg-phase-strategy", "TWO_PHASE");
    configuration.set("table.exec.mini-batch.enabled", "true");
    configuration.set("table.exec.mini-batch.allow-latency", "1 s");
    configuration.set("table.exec.mini-batch.size", "50000");
    configuration.setLocalTimeZone(java.time.ZoneOffset.UTC);
    tables.createTemporarySystemFunction("counted", Counted.class);
    tables.executeSql(events(job));
    tables.executeSql(COUNTED);
    tables.executeSql(alerts(job));
    TableResult counting = tables.executeSql(query(job.limits()[HOUR_LIMIT]));
    // The last windows close, and tell, when the topic's end has come through.
    Progress.end =
        () -> {
          counting.await();
          return null;
        };
  }

  private static String events(Job job) {
    StringBuilder properties = new StringBuilder();
    Clients.CONSUMER.forEach(
        (name, value) ->
            properties.append(", 'properties.%s' = '%s'".formatted(name, value)));
    // It ends where the topic ends, so that the last windows close.
    return """
        CREATE TABLE events (
          event_time BIGINT,
          principal ROW<id STRING>,
          `rows` BIGINT,
          happened AS TO_TIMESTAMP_LTZ(event_time, 3),
          WATERMARK FOR happened AS happened - INTERVAL '1' MINUTE
        ) WITH (
          'connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s',
          'properties.group.id' = '%s', 'scan.startup.mode' = 'earliest-offset',
          'scan.bounded.mode' = 'latest-offset', 'format' = 'json' %s)
        """
        .formatted(job.input(), job.kafka(), job.id(), properties);
  }

  private static String alerts(Job job) {
    return """
        CREATE TABLE alerts (principal STRING, `window` STRING, `time` BIGINT) WITH (
          'connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s',
          'format' = 'json')
        """
        .formatted(job.output(), job.kafka());
  }

  private static String query(long limit) {
    return """
        INSERT INTO alerts
        SELECT who, '1h', 1000 * UNIX_TIMESTAMP(CAST(window_end AS STRING))
        FROM TABLE(HOP(
          TABLE counted_events, DESCRIPTOR(happened), INTERVAL '12' MINUTES, INTERVAL '1' HOUR))
        GROUP BY who, window_start, window_end
        HAVING SUM(more) > %d
        """
        .formatted(limit);
  }

  /** Hands its argument on and counts it, since SQL itself does not tell how far it is. */
  public static final class Counted extends ScalarFunction {
    private transient Progress.Tally tally;

    public Long eval(Long rows) {
      if (tally == null) {
        tally = Progress.tally();
      }
      tally.read();
      tally.counted(rows);
      return rows;
    }

    @Override
    public boolean isDeterministic() {
      // Else the planner might call it twice or drop it.
      return false;
    }
  }
}
