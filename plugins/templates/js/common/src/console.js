// The console, which this runtime does not have: each call is an entry of the log.
import * as journal from "plugind:plugin/journal@0.1.0";

function text(value) {
  if (typeof value !== "object" || value instanceof Error) {
    return String(value);
  }
  try {
    return JSON.stringify(value);
  } catch {
    // JSON has no BigInt and no cycles.
    return Object.prototype.toString.call(value);
  }
}
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
