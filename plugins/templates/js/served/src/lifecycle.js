// The lifecycle of an instance: it reads the configuration before it serves.
import * as journal from "plugind:plugin/journal@0.1.0";
import * as config from "wasi:config/store@0.2.0-rc.1";

// From [config] of the manifest. It does not change while the instance exists.
let loaded = "Hello";

export const greeting = () => loaded;

export const lifecycle = {
  async start() {
    loaded = config.get("greeting") ?? loaded;
    if (loaded.trim() === "") {
      throw { tag: "configuration", val: "[config] greeting is empty" };
    }
    journal.send("info", "greeting loaded", [["greeting", loaded]]);
  },

  async health() {
    return { tag: "healthy" };
  },

  async stop(reason) {
    journal.send("info", "stopping", [["reason", reason]]);
  },
};
