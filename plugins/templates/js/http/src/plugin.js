// Greets everyone who asks over HTTP.
import * as journal from "plugind:plugin/journal@0.1.0";
import "./console.js";
import { greet } from "./greeting.js";
import { serve } from "./http.js";
import { greeting } from "./lifecycle.js";

export { lifecycle } from "./lifecycle.js";

export const handler = serve(async (request) => {
  journal.send("debug", "request", [["path", request.path]]);
  return { body: greet(greeting(), request.path) };
});
