// Text as bytes in UTF-8: this runtime has no TextEncoder.
export const encode = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));

// Bytes that are decoded at a time. A function can have only so many arguments.
const PIECE = 4096;

// Bytes as text. Bytes that are not UTF-8 are read as Latin-1, so that no client can make this fail.
export function decode(bytes) {
  const pieces = [];
  for (let at = 0; at < bytes.length; at += PIECE) pieces.push(String.fromCharCode(...bytes.slice(at, at + PIECE)));
  const text = pieces.join("");
  try {
    return decodeURIComponent(escape(text));
  } catch {
    return text;
  }
}
