import assert from "node:assert/strict";
import test from "node:test";
import { greet } from "../src/greeting.js";

test("everyone is greeted by name", () => {
  assert.equal(greet("Hello", "/"), "Hello, world\n");
  assert.equal(greet("Hello", "Ada\r\n"), "Hello, Ada\n");
  assert.equal(greet("Good morning", "/Ada/?x"), "Good morning, Ada\n");
});
