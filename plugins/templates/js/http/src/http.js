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

// The client has disconnected before the end of the body.
class IncompleteBody extends Error {}

async function readBody(request) {
  const [stream, trailers] = Request.consumeBody(request, ready("RESULT_VOID", { tag: "ok" }));
  const pieces = [];
  for await (const piece of stream) {
    pieces.push(piece);
  }
  const { tag, val } = await trailers.read();
  if (tag === "err") throw new IncompleteBody("the body of the request is incomplete");
  val?.[Symbol.dispose]();
  const body = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let end = 0;
  for (const piece of pieces) {
    body.set(piece, end);
    end += piece.length;
  }
  return body;
}

// Returns what `answer` returns, or the response to a request whose body is incomplete.
async function answerTo(asked, answer) {
  try {
    return await answer(asked);
  } catch (error) {
    if (error instanceof IncompleteBody) return { status: 400, body: `${error.message}\n` };
    throw error;
  }
}

// Makes a handler of `answer`, which gets { method, path, headers, text() } and returns { status, headers, body }.
// `text()` fails if the body is incomplete, and the response is then 400.
export function serve(answer) {
  return {
    async handle(request) {
      const headers = Object.fromEntries(request.getHeaders().copyAll().map(([name, value]) => [name, decode(value)]));
      const asked = {
        method: request.getMethod().tag.toUpperCase(),
        path: request.getPathWithQuery() ?? "/",
        headers,
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
