package exfilwatch.peers;

import java.io.IOException;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/** Parses in the consumer's own step; each event is an object of its own, as Streams holds some. */
final class ReadDeserializer implements Deserializer<Read> {
  private final ReadParser parser = new ReadParser();

  @Override
  public Read deserialize(String topic, byte[] json) {
    Read read = new Read();
    try {
      parser.parse(json, read);
    } catch (IOException error) {
      throw new SerializationException(error);
    }
    return read;
  }
}
