package exfilwatch.peers;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * Sums of one principal over four windows in 100 bytes: of each window six slices, a fifth of it
 * wide, so that the sum covers at least the window and at most a slice more. In a byte array since
 * that is what state stores keep, so nothing is encoded or decoded on the way.
 *
 * <p>Layout: the newest tick, then six sums of 4 bytes for each window. A sum stops at its greatest
 * value rather than overflow.
 */
final class Ring {
  static final String[] WINDOWS = {"1m", "1h", "24h", "30d"};

  /** A fifth of the shortest window. */
  private static final long TICK_MS = 12_000;

  private static final int SLICES = 6;
  private static final int BYTES = 4 + 4 * SLICES * WINDOWS.length;
  private static final VarHandle INT =
      MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);

  private Ring() {}

  static byte[] empty(long timeMs) {
    byte[] ring = new byte[BYTES];
    INT.set(ring, 0, (int) (timeMs / TICK_MS));
    return ring;
  }

  /** Adds a read; the result has a bit set for each window whose sum has just passed its limit. */
  static int add(byte[] ring, long timeMs, long rows, long[] limits) {
    int tick = (int) (timeMs / TICK_MS);
    int newest = (int) INT.get(ring, 0);
    int more = (int) Math.min(rows, Integer.MAX_VALUE);
    // Widths are written out since dividing by what the compiler knows is a multiplication.
    int passed =
        window(ring, 0, tick, newest, more, limits[0])
            | window(ring, 1, tick / 60, newest / 60, more, limits[1]) << 1
            | window(ring, 2, tick / 1_440, newest / 1_440, more, limits[2]) << 2
            | window(ring, 3, tick / 43_200, newest / 43_200, more, limits[3]) << 3;
    if (tick > newest) {
      INT.set(ring, 0, tick);
    }
    return passed;
  }

  private static int window(
      byte[] ring, int window, int slice, int newest, int more, long limit) {
    int base = 4 + 4 * SLICES * window;
    if (slice <= newest - SLICES) {
      return 0;
    }
    int stale = Math.min(slice - newest, SLICES);
    for (int back = 0; back < stale; back++) {
      INT.set(ring, base + 4 * ((slice - back) % SLICES), 0);
    }
    int at = base + 4 * (slice % SLICES);
    long total = 0;
    for (int i = 0; i < SLICES; i++) {
      total += (int) INT.get(ring, base + 4 * i);
    }
    INT.set(ring, at, (int) Math.min((long) (int) INT.get(ring, at) + more, Integer.MAX_VALUE));
    return total <= limit && total + more > limit ? 1 : 0;
  }
}
