// Bytes that a test knows without having them: both ends compute them from a size and a seed.
// The Python side is in tests/compat/drivers/python_worker.py.

/** @param {number} size @param {number} seed @returns {Uint8Array<ArrayBuffer>} */
export function pattern(size, seed) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = (at * 31 + (at >> 8) * 17 + (at >> 16) * 7 + seed) & 0xff;
  return bytes;
}

/**
 * The seed with which `bytes` are the pattern, or null when they are damaged.
 * @param {Uint8Array} bytes
 */
export function seedOf(bytes) {
  const seed = bytes[0] ?? 0;
  const wanted = pattern(bytes.length, seed);
  return bytes.every((byte, at) => byte === wanted[at]) ? seed : null;
}
