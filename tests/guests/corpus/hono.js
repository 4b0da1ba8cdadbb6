// The example in the README of jco-std, with a parameter.
import { Hono } from "hono";
import { fire, incomingHandler } from "@bytecodealliance/jco-std/wasi/0.2.12/http/adapters/hono/server";

const app = new Hono();
app.get("/hello/:name", (context) => context.text(`Hello, ${context.req.param("name")}`));
fire(app);
export { incomingHandler };
