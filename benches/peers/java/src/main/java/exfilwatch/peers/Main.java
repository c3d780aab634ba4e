package exfilwatch.peers;

/** Runs one peer over one topic until every event is counted, and says what that cost. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) {
    try {
      Job job = Job.from(arguments);
      Progress.watch(job);
      run(job);
    } catch (Exception error) {
      Progress.fail(error);
    }
  }

  private static void run(Job job) throws Exception {
    switch (job.peer()) {
      case "flink" -> FlinkRing.run(job);
      case "flink-sql" -> FlinkSql.run(job);
      case "streams-hash", "streams-tree", "streams-rocksdb" -> StreamsRing.run(job);
      case "dsl-sliding", "dsl-hop-12m", "dsl-hop-1m" -> StreamsDsl.run(job);
      default -> throw new IllegalArgumentException("no peer " + job.peer());
    }
  }
}
