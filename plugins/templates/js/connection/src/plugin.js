// Greets everyone whose name comes as a line of a connection.
import "./console.js";
import { greet } from "./greeting.js";
import { greeting } from "./lifecycle.js";
import { decode, encode } from "./text.js";

export { lifecycle } from "./lifecycle.js";

// The longest line, after which a connection is reset.
const LINE_MAX = 1024;
const NEWLINE = 10;

export const blockingConnectionHandler = {
  async handle(connection) {
    let received = [];
    for (;;) {
      let bytes;
      try {
        bytes = connection.read(65536);
        for (const byte of bytes) {
          received.push(byte);
          if (byte === NEWLINE) {
            connection.write(encode(greet(greeting(), decode(received.slice(0, -1)))));
            received = [];
          }
        }
      } catch (error) {
        // Only an error of the host has a payload: the client has left, which is no failure of the plugin.
        if (error?.payload !== undefined) return;
        throw error;
      }
      if (bytes.length === 0) {
        return;
      }
      if (received.length > LINE_MAX) {
        throw "a line is too long";
      }
    }
  },
};
