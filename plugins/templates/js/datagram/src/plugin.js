// Greets everyone whose name comes as a datagram.
import "./console.js";
import { greet } from "./greeting.js";
import { greeting } from "./lifecycle.js";
import { decode, encode } from "./text.js";

export { lifecycle } from "./lifecycle.js";

// The sender of a UDP datagram can be forged, so an answer must not be much longer than its question.
export const datagramHandler = {
  async handle(_socket, _peer, datagram) {
    return encode(greet(greeting(), decode(datagram)));
  },
};
