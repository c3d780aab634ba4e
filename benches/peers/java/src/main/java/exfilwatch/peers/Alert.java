package exfilwatch.peers;

/** What is published when a sum passes a limit. */
final class Alert {
  private Alert() {}

  /** As JSON; principals of the bench need no escaping. */
  static String json(String principal, String window, long timeMs) {
    return "{\"principal\":\"" + principal + "\",\"window\":\"" + window + "\",\"time\":" + timeMs
        + "}";
  }
}
