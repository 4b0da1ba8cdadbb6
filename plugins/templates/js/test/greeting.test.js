import assert from "node:assert/strict";
import test from "node:test";
import { greet } from "../src/greeting.js";

test("the path says who is greeted", () => {
  assert.equal(greet("Hello", "/"), "Hello, world\n");
  assert.equal(greet("Good morning", "/Ada/?x"), "Good morning, Ada\n");
});
