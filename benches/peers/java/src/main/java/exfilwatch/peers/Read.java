package exfilwatch.peers;

/** Somebody's read, and how many rows it brought; mutable, so that Flink can use one again. */
public final class Read {
  String principal;
  long timeMs;
  long rows;
}
