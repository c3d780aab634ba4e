package exfilwatch.peers;

import com.sun.management.OperatingSystemMXBean;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.LongSupplier;

/**
 * How far a peer has come, and what it has cost by then.
 *
 * <p>Reading runs ahead of counting, by as much as lies on the topic between them. So an event is
 * half done when it is read and done when it is counted: else a peer that reads far ahead while it
 * warms up would have that part for nothing.
 */
final class Progress {
  private static final long EVERY_MS = 5;
  /** Alerts still on their way between threads get this long to be written. */
  private static final long SETTLE_MS = 1_000;
  private static final List<Tally> TALLIES = new CopyOnWriteArrayList<>();
  private static final ThreadLocal<Tally> MINE = ThreadLocal.withInitial(Progress::tally);

  /** What was thrown away for being late; a peer that can say so sets it. */
  static volatile LongSupplier dropped = () -> 0;

  /** Ends the peer in order, so that nothing it holds back is lost. */
  static volatile Callable<?> end = () -> null;

  private Progress() {}

  /** Counts of one thread, which alone writes them; no lock, no shared cache line to fight for. */
  static final class Tally {
    private static final VarHandle READ = field("read");
    private static final VarHandle COUNTED = field("counted");
    private static final VarHandle ROWS = field("rows");

    @SuppressWarnings("unused")
    private long read, counted, rows, p1, p2, p3, p4, p5;

    private Tally() {}

    void read() {
      READ.setOpaque(this, (long) READ.getOpaque(this) + 1);
    }

    void counted(long more) {
      ROWS.setOpaque(this, (long) ROWS.getOpaque(this) + more);
      COUNTED.setOpaque(this, (long) COUNTED.getOpaque(this) + 1);
    }

    private static VarHandle field(String name) {
      try {
        return MethodHandles.lookup().findVarHandle(Tally.class, name, long.class);
      } catch (ReflectiveOperationException error) {
        throw new ExceptionInInitializerError(error);
      }
    }
  }

  /** A tally for whoever asks, to be used by one thread only. */
  static Tally tally() {
    Tally tally = new Tally();
    TALLIES.add(tally);
    return tally;
  }

  /** The tally of the calling thread, for code that several share. */
  static Tally mine() {
    return MINE.get();
  }

  /** Looks on from a thread of its own, and reports and ends the process when all is counted. */
  static void watch(Job job) {
    new Thread(() -> follow(job), "progress").start();
  }

  private static void follow(Job job) {
    try {
      while (halves() < 2 * job.warmup()) {
        Thread.sleep(EVERY_MS);
      }
      long warmNanos = System.nanoTime();
      double warmCpu = cpu();
      long warmHalves = halves();
      while (sum(Tally.COUNTED) < job.events()) {
        Thread.sleep(EVERY_MS);
      }
      double cpu = cpu();
      double wall = (System.nanoTime() - warmNanos) / 1e9;
      double after = job.events() - warmHalves / 2.0;
      long rows = sum(Tally.ROWS);
      long dropped = Progress.dropped.getAsLong();
      double heap = liveHeapMib();
      end.call();
      Thread.sleep(SETTLE_MS);
      System.out.printf(
          Locale.ROOT,
          "{\"events\":%d,\"rows\":%d,\"dropped\":%d,\"events_warm\":%.0f,\"cpu_warm_s\":%.2f,"
              + "\"wall_warm_s\":%.2f,\"cpu_s\":%.2f,\"live_heap_mib\":%.1f}%n",
          sum(Tally.COUNTED), rows, dropped, after, cpu - warmCpu, wall, cpu, heap);
      System.out.flush();
      Runtime.getRuntime().halt(0);
    } catch (Exception error) {
      fail(error);
    }
  }

  /** Ends the process at once: what is left of it may wait for ever. */
  static void fail(Throwable error) {
    error.printStackTrace();
    Runtime.getRuntime().halt(1);
  }

  private static long halves() {
    return sum(Tally.READ) + sum(Tally.COUNTED);
  }

  private static long sum(VarHandle field) {
    long sum = 0;
    for (Tally tally : TALLIES) {
      sum += (long) field.getOpaque(tally);
    }
    return sum;
  }

  /** User and system seconds of all threads: compilers and collectors are part of the price. */
  private static double cpu() {
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    return system.getProcessCpuTime() / 1e9;
  }

  private static double liveHeapMib() {
    System.gc();
    return ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed() / 1048576.0;
  }
}
