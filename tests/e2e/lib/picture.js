// The known picture: every frame says whose it is and which number it has, so that a test can prove what a
// subscriber really decoded.
//
// A frame is a grid of 16 x 9 equal blocks. Row 1 holds the id (8 bits) and a checksum (8 bits), row 2 the frame number
// (16 bits), most significant bit first, a white block being 1. The rest is a moving grey texture over the id's colour.
// Readable down to 160 x 90. The Python side (tests/python/picture.py) reads and writes the same layout.

export const COLUMNS = 16;
export const ROWS = 9;
const FIRST_CODE_ROW = 1;
const CODE_BITS = 32;
const BLACK = 16;
const WHITE = 235;
/** A block this close to middle grey is not a bit: the picture is damaged or is something else. */
const GREY_MARGIN = 40;

/** @typedef {{ id: number, number: number }} Caption */

/**
 * Paints frame `number` of picture `id` into an I420 buffer and returns it.
 * @param {Uint8Array} i420 at least width * height * 3 / 2 bytes
 * @param {number} width @param {number} height @param {number} id @param {number} number
 */
export function paint(i420, width, height, id, number) {
  const luma = i420.subarray(0, width * height);
  paintTexture(luma, width, height, number);
  const bits = encode(id, number);
  for (let bit = 0; bit < CODE_BITS; bit += 1) {
    const level = bits[bit] ? WHITE : BLACK;
    const { left, right, top, bottom } = block(bit, width, height);
    for (let y = top; y < bottom; y += 1) luma.fill(level, y * width + left, y * width + right);
  }
  paintColour(i420, width, height, id);
  return i420;
}

/**
 * Reads the caption of a decoded frame, or null when the code is damaged.
 * @param {(x: number, y: number) => number} lumaAt @param {number} width @param {number} height
 * @returns {Caption | null}
 */
export function read(lumaAt, width, height) {
  /** @type {number[]} */
  const bits = [];
  for (let bit = 0; bit < CODE_BITS; bit += 1) {
    const level = meanOfMiddle(lumaAt, block(bit, width, height));
    if (Math.abs(level - 128) < GREY_MARGIN) return null;
    bits.push(level > 128 ? 1 : 0);
  }
  const value = (/** @type {number} */ from, /** @type {number} */ to) => bits.slice(from, to).reduce((sum, bit) => sum * 2 + bit, 0);
  const id = value(0, 8);
  const number = value(16, 32);
  return value(8, 16) === checksum(id, number) ? { id, number } : null;
}

/** @param {number} id @param {number} number */
function encode(id, number) {
  const word = [id & 0xff, checksum(id, number), (number >> 8) & 0xff, number & 0xff];
  return word.flatMap((byte) => Array.from({ length: 8 }, (_, i) => (byte >> (7 - i)) & 1));
}

/** @param {number} id @param {number} number */
function checksum(id, number) {
  return (id * 31 + ((number >> 8) & 0xff) * 17 + (number & 0xff) * 7 + 0x5a) & 0xff;
}

/** @param {number} bit @param {number} width @param {number} height */
function block(bit, width, height) {
  const column = bit % COLUMNS;
  const row = FIRST_CODE_ROW + Math.floor(bit / COLUMNS);
  return {
    left: Math.round((column * width) / COLUMNS),
    right: Math.round(((column + 1) * width) / COLUMNS),
    top: Math.round((row * height) / ROWS),
    bottom: Math.round(((row + 1) * height) / ROWS),
  };
}

/**
 * The mean of nine samples from the middle of a block, away from the edges that a codec blurs.
 * @param {(x: number, y: number) => number} lumaAt
 * @param {{ left: number, right: number, top: number, bottom: number }} area
 */
function meanOfMiddle(lumaAt, { left, right, top, bottom }) {
  let sum = 0;
  for (const fy of [0.4, 0.5, 0.6]) {
    for (const fx of [0.4, 0.5, 0.6]) sum += lumaAt(Math.floor(left + (right - left) * fx), Math.floor(top + (bottom - top) * fy));
  }
  return sum / 9;
}

/** @param {Uint8Array} luma @param {number} width @param {number} height @param {number} number */
function paintTexture(luma, width, height, number) {
  const period = 128;
  const line = new Uint8Array(width + period);
  for (let x = 0; x < line.length; x += 1) line[x] = 64 + Math.abs((x % period) - period / 2);
  for (let y = 0; y < height; y += 1) {
    const shift = (y + number * 2) % period;
    luma.set(line.subarray(shift, shift + width), y * width);
  }
}

/** @param {Uint8Array} i420 @param {number} width @param {number} height @param {number} id */
function paintColour(i420, width, height, id) {
  const [half, size] = [width >> 1, (width >> 1) * (height >> 1)];
  const blue = i420.subarray(width * height, width * height + size);
  const red = i420.subarray(width * height + size, width * height + 2 * size);
  blue.fill(96 + ((id * 37) % 64));
  red.fill(96 + ((id * 53) % 64));
  const from = Math.floor(((FIRST_CODE_ROW * height) / ROWS) >> 1) * half;
  const to = Math.ceil((((FIRST_CODE_ROW + 2) * height) / ROWS) >> 1) * half;
  blue.fill(128, from, to);
  red.fill(128, from, to);
}
