package exfilwatch.peers;

import java.util.Arrays;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * What a peer is to do.
 *
 * @param peer which of them
 * @param kafka {@code host:port}
 * @param id names its groups and topics, so that no two runs share any
 * @param input where the events are
 * @param output where the alerts go
 * @param events how many there are
 * @param warmup how many of them come before the costs count
 * @param exactlyOnce whether nothing may come twice
 * @param limits of the four windows, in rows
 * @param folder for local state and checkpoints
 */
record Job(
    String peer,
    String kafka,
    String id,
    String input,
    String output,
    long events,
    long warmup,
    boolean exactlyOnce,
    long[] limits,
    String folder) {

  /** Two cores, two partitions: whoever runs more threads than that pays for switching them. */
  static final int PARALLELISM = 2;

  /** As exfilwatch saves what it has counted. */
  static final int CHECKPOINT_MS = 10_000;

  /** From {@code name=value} for each. */
  static Job from(String[] arguments) {
    Map<String, String> given =
        Arrays.stream(arguments)
            .map(argument -> argument.split("=", 2))
            .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1]));
    long[] limits =
        Arrays.stream(given.get("limits").split(",")).mapToLong(Long::parseLong).toArray();
    return new Job(
        given.get("peer"),
        given.get("kafka"),
        given.get("id"),
        given.get("input"),
        given.get("output"),
        Long.parseLong(given.get("events")),
        Long.parseLong(given.get("warmup")),
        Boolean.parseBoolean(given.get("exactlyOnce")),
        limits,
        given.get("folder"));
  }
}
