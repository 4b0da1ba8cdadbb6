// Sends back what arrives on a connection, without async functions.
import * as journal from "plugind:plugin/journal@0.1.0";

export const lifecycle = {
  start() {
    journal.send("info", "started", [["by", "echo"]]);
  },
  health() {
    return { tag: "healthy" };
  },
  stop() {},
};

export const blockingConnectionHandler = {
  handle(connection) {
    for (let bytes = connection.read(65536); bytes.length > 0; bytes = connection.read(65536)) {
      connection.write(bytes);
    }
  },
};
