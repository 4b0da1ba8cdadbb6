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

async function readBody(request) {
  const [stream] = Request.consumeBody(request, ready("RESULT_UNIT", { tag: "ok" }));
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(...chunk);
  }
  return Uint8Array.from(chunks);
}

// Makes a handler of `answer`, which gets { method, path, headers, text() } and returns { status, headers, body }.
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
      const { status = 200, headers: own = {}, body = "" } = await answer(asked);
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
