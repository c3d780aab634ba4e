package exfilwatch.peers;

import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.processor.StateStoreContext;
import org.apache.kafka.streams.query.Position;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * A state store over a hash map: the built-in one in memory is a tree, which compares keys all the
 * way down. Order is made only for those who ask for it.
 */
final class HashStore implements KeyValueStore<Bytes, byte[]> {
  private final String name;
  private final Map<Bytes, byte[]> kept = new HashMap<>(1 << 16);
  private final Position position = Position.emptyPosition();
  private boolean open;

  private HashStore(String name) {
    this.name = name;
  }

  /** Makes one for each task. */
  record Supplier(String name) implements KeyValueBytesStoreSupplier {
    @Override
    public KeyValueStore<Bytes, byte[]> get() {
      return new HashStore(name);
    }

    @Override
    public String metricsScope() {
      return "in-memory-hash";
    }
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public void init(StateStoreContext context, StateStore root) {
    context.register(root, (key, value) -> put(Bytes.wrap(key), value));
    open = true;
  }

  @Override
  public byte[] get(Bytes key) {
    return kept.get(key);
  }

  @Override
  public void put(Bytes key, byte[] value) {
    if (value == null) {
      kept.remove(key);
    } else {
      kept.put(key, value);
    }
  }

  @Override
  public byte[] putIfAbsent(Bytes key, byte[] value) {
    return kept.putIfAbsent(key, value);
  }

  @Override
  public void putAll(List<KeyValue<Bytes, byte[]>> entries) {
    entries.forEach(entry -> put(entry.key, entry.value));
  }

  @Override
  public byte[] delete(Bytes key) {
    return kept.remove(key);
  }

  @Override
  public KeyValueIterator<Bytes, byte[]> range(Bytes from, Bytes to) {
    return new Entries(new TreeMap<>(kept).subMap(from, true, to, true));
  }

  @Override
  public KeyValueIterator<Bytes, byte[]> all() {
    return new Entries(new TreeMap<>(kept));
  }

  @Override
  public long approximateNumEntries() {
    return kept.size();
  }

  @Override
  public boolean persistent() {
    return false;
  }

  /** Of use to interactive queries only, which nobody makes here. */
  @Override
  public Position getPosition() {
    return position;
  }

  @Override
  public boolean isOpen() {
    return open;
  }

  @Override
  public void flush() {}

  @Override
  public void close() {
    kept.clear();
    open = false;
  }

  /** Walks over entries in order. */
  private static final class Entries implements KeyValueIterator<Bytes, byte[]> {
    private final Iterator<Map.Entry<Bytes, byte[]>> rest;
    private Map.Entry<Bytes, byte[]> next;

    Entries(Map<Bytes, byte[]> entries) {
      rest = entries.entrySet().iterator();
    }

    @Override
    public boolean hasNext() {
      return next != null || rest.hasNext();
    }

    @Override
    public KeyValue<Bytes, byte[]> next() {
      Bytes key = peekNextKey();
      byte[] value = next.getValue();
      next = null;
      return KeyValue.pair(key, value);
    }

    @Override
    public Bytes peekNextKey() {
      if (next == null) {
        next = rest.next();
      }
      return next.getKey();
    }

    @Override
    public void close() {}
  }
}
