package exfilwatch.peers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** How a {@link Read} travels between Flink's threads: some 30 bytes, without reflection. */
final class ReadType extends TypeInformation<Read> {
  static final ReadType INSTANCE = new ReadType();

  @Override
  public boolean isBasicType() {
    return false;
  }

  @Override
  public boolean isTupleType() {
    return false;
  }

  @Override
  public int getArity() {
    return 1;
  }

  @Override
  public int getTotalFields() {
    return 3;
  }

  @Override
  public Class<Read> getTypeClass() {
    return Read.class;
  }

  @Override
  public boolean isKeyType() {
    return false;
  }

  @Override
  public TypeSerializer<Read> createSerializer(SerializerConfig config) {
    return Serializer.INSTANCE;
  }

  @Override
  public String toString() {
    return "Read";
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof ReadType;
  }

  @Override
  public int hashCode() {
    return ReadType.class.hashCode();
  }

  @Override
  public boolean canEqual(Object other) {
    return other instanceof ReadType;
  }

  /** Time, rows, and the name with its length before it. */
  public static final class Serializer extends TypeSerializerSingleton<Read> {
    static final Serializer INSTANCE = new Serializer();

    @Override
    public boolean isImmutableType() {
      return false;
    }

    @Override
    public Read createInstance() {
      return new Read();
    }

    @Override
    public Read copy(Read from) {
      return copy(from, new Read());
    }

    @Override
    public Read copy(Read from, Read into) {
      into.principal = from.principal;
      into.timeMs = from.timeMs;
      into.rows = from.rows;
      return into;
    }

    @Override
    public int getLength() {
      return -1;
    }

    @Override
    public void serialize(Read read, DataOutputView out) throws IOException {
      byte[] name = read.principal.getBytes(StandardCharsets.UTF_8);
      out.writeLong(read.timeMs);
      out.writeLong(read.rows);
      out.writeShort(name.length);
      out.write(name);
    }

    @Override
    public Read deserialize(DataInputView in) throws IOException {
      return deserialize(new Read(), in);
    }

    @Override
    public Read deserialize(Read into, DataInputView in) throws IOException {
      into.timeMs = in.readLong();
      into.rows = in.readLong();
      byte[] name = new byte[in.readUnsignedShort()];
      in.readFully(name);
      into.principal = new String(name, StandardCharsets.UTF_8);
      return into;
    }

    @Override
    public void copy(DataInputView in, DataOutputView out) throws IOException {
      serialize(deserialize(in), out);
    }

    @Override
    public TypeSerializerSnapshot<Read> snapshotConfiguration() {
      return new Snapshot();
    }
  }

  /** Says that a serializer restored from a checkpoint is this one. */
  public static final class Snapshot extends SimpleTypeSerializerSnapshot<Read> {
    public Snapshot() {
      super(() -> Serializer.INSTANCE);
    }
  }
}
