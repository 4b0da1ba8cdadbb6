// Greets the world now and then, in the background. A program that returns is finished, and is not run again.
import * as journal from "plugind:plugin/journal@0.1.0";
import { subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.12";
import * as config from "wasi:config/store@0.2.0-rc.1";
import "./console.js";
import { greet } from "./greeting.js";

const INTERVAL = 10_000_000_000; // nanoseconds

export const run = {
  run() {
    // From [config] of the manifest. It does not change while the program runs.
    const greeting = config.get("greeting") ?? "Hello";
    if (greeting.trim() === "") {
      console.error("[config] greeting is empty");
      throw undefined; // the program has failed
    }
    journal.send("info", "greeting loaded", [["greeting", greeting]]);
    for (;;) {
      console.log(greet(greeting, "world").trim());
      const timer = subscribeDuration(INTERVAL);
      timer.block();
      timer[Symbol.dispose](); // it stays in a table of limited size otherwise
    }
  },
};
