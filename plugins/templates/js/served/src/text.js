// Text as bytes in UTF-8: this runtime has no TextEncoder.
export const encode = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));

// Bytes as text. Bytes that are not UTF-8 are read as Latin-1, so that no client can make this fail.
export function decode(bytes) {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  try {
    return decodeURIComponent(escape(text));
  } catch {
    return text;
  }
}
