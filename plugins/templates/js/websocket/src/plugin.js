// Greets everyone whose name comes as a message of a WebSocket.
import * as journal from "plugind:plugin/journal@0.1.0";
import "./console.js";
import { greet } from "./greeting.js";
import { greeting } from "./lifecycle.js";

export { lifecycle } from "./lifecycle.js";

export const blockingWebsocketHandler = {
  async handle(request, socket) {
    journal.send("debug", "request", [["path", request.path]]);
    try {
      socket.accept(undefined);
      for (let message = socket.receive(); message.tag !== "close"; message = socket.receive()) {
        if (message.tag === "text") {
          socket.send({ tag: "text", val: greet(greeting(), message.val) });
        }
      }
    } catch (error) {
      // Only an error of the host has a payload: the client has left, which is no failure of the plugin.
      if (error?.payload === undefined) throw error;
    }
  },
};
