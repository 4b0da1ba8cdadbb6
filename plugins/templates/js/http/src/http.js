// Requests and responses as plain objects, on top of wasi:http 0.3. It is yours to change.
import { Fields, Request, Response } from "wasi:http/types@0.3.0";
import { decode, encode } from "./text.js";

// Returns a future of the type whose name contains `part`, which has this value already.
function ready(part, value) {
  const type = Object.keys(wit.Future).find((name) => name.includes(part));
  const { readable, writable } = wit.Future(wit.Future[type]);
  writable.write(value);
  return readable;
}

// The largest body of a request. `instance-memory-max` of the manifest must suffice for several at a time.
const BODY_MAX = 1 << 20;

// The body of a request cannot be read. It has the status of the response.
class BodyError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function readBody(request) {
  const [stream, trailers] = Request.consumeBody(request, ready("RESULT_VOID", { tag: "ok" }));
  const pieces = [];
  let length = 0;
  for await (const piece of stream) {
    length += piece.length;
    if (length > BODY_MAX) {
      trailers.drop();
      throw new BodyError(413, `the body of the request must have at most ${BODY_MAX} bytes`);
    }
    pieces.push(piece);
  }
  const { tag, val } = await trailers.read();
  // The client has disconnected before the end of the body.
  if (tag === "err") throw new BodyError(400, "the body of the request is incomplete");
  val?.[Symbol.dispose]();
  const body = new Uint8Array(length);
  let end = 0;
  for (const piece of pieces) {
    body.set(piece, end);
    end += piece.length;
  }
  return body;
}

// Returns the fields as an object. Several fields of one name are one list (RFC 9110, section 5.3).
function headersOf(request) {
  const headers = new Map();
  for (const [name, value] of request.getHeaders().copyAll()) {
    const before = headers.has(name) ? headers.get(name) + (name === "cookie" ? "; " : ", ") : "";
    headers.set(name, before + decode(value));
  }
  return Object.fromEntries(headers);
}

// Returns what `answer` returns, or the response to a request whose body cannot be read.
async function answerTo(asked, answer) {
  try {
    return await answer(asked);
  } catch (error) {
    if (error instanceof BodyError) return { status: error.status, body: `${error.message}\n` };
    throw error;
  }
}

// Makes a handler of `answer`, which gets { method, path, headers, text() } and returns { status, headers, body }.
// `text()` fails if the body is incomplete or too large, and the response is then 400 or 413.
export function serve(answer) {
  return {
    async handle(request) {
      const { tag, val } = request.getMethod();
      const asked = {
        method: val ?? tag.toUpperCase(),
        path: request.getPathWithQuery() ?? "/",
        headers: headersOf(request),
        text: async () => decode(await readBody(request)),
      };
      const { status = 200, headers: own = {}, body = "" } = await answerTo(asked, answer);
      const bytes = typeof body === "string" ? encode(body) : body;
      const all = { "content-type": "text/plain; charset=utf-8", "content-length": String(bytes.length), ...own };
      const fields = Fields.fromList(Object.entries(all).map(([name, value]) => [name, encode(value)]));
      const stream = (async function* () {
        yield bytes;
      })();
      const [response] = Response.new(fields, stream, ready("OPTION", { tag: "ok", val: null }));
      response.setStatusCode(status);
      return response;
    },
  };
}
