// Greets everyone who asks.
import * as journal from "plugind:plugin/journal@0.1.0";
import * as config from "wasi:config/store@0.2.0-rc.1";
import { greet } from "./greeting.js";
import { serve } from "./http.js";

// From [config] of the manifest. It does not change while the instance exists.
let greeting = "Hello";

export const lifecycle = {
  async start() {
    greeting = config.get("greeting") ?? greeting;
    if (greeting.trim() === "") {
      throw { tag: "configuration", val: "[config] greeting is empty" };
    }
    journal.send("info", "greeting loaded", [["greeting", greeting]]);
  },

  async health() {
    return { tag: "healthy" };
  },

  async stop(reason) {
    journal.send("info", "stopping", [["reason", reason]]);
  },
};

export const handler = serve(async (request) => {
  journal.send("debug", "request", [["path", request.path]]);
  return { body: greet(greeting, request.path) };
});
