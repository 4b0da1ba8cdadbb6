// The console, which this runtime does not have: each call is an entry of the log.
import * as journal from "plugind:plugin/journal@0.1.0";

const text = (value) => (typeof value === "object" && !(value instanceof Error) ? JSON.stringify(value) : String(value));
const writer =
  (priority) =>
  (...values) =>
    journal.send(priority, values.map(text).join(" "), []);

globalThis.console = {
  debug: writer("debug"),
  log: writer("info"),
  info: writer("info"),
  warn: writer("warning"),
  error: writer("error"),
};
