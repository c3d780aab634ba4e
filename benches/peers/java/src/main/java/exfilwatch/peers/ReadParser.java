package exfilwatch.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

/**
 * Three fields of an event, as a stream of tokens: no tree, no reflection, and it stops at the
 * third. Nothing is validated.
 */
final class ReadParser {
  private static final int FIELDS = 3;
  private static final JsonFactory FACTORY = new JsonFactoryBuilder().build();

  /** Fills {@code into}. */
  void parse(byte[] json, Read into) throws IOException {
    try (JsonParser parser = FACTORY.createParser(json)) {
      parser.nextToken();
      int found = 0;
      for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
        JsonToken value = parser.nextToken();
        switch (name) {
          case "event_time" -> into.timeMs = parser.getLongValue();
          case "principal" -> into.principal = id(parser);
          case "rows" -> into.rows = parser.getLongValue();
          default -> {
            if (value.isStructStart()) {
              parser.skipChildren();
            }
            continue;
          }
        }
        if (++found == FIELDS) {
          return;
        }
      }
    }
    throw new IOException("an event without principal, event_time or rows");
  }

  /** The {@code id} of a principal. */
  private static String id(JsonParser parser) throws IOException {
    String id = null;
    for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
      parser.nextToken();
      if (name.equals("id")) {
        id = parser.getText();
      } else {
        parser.skipChildren();
      }
    }
    return id;
  }
}
