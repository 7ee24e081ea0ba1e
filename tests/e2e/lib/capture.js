// Files that Chromium's fake camera and microphone play: the known picture as Y4M and a tone as WAV.

import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { OUT_DIR } from './server.js';
import { paint } from './picture.js';

const SAMPLE_RATE_HZ = 48_000;

/**
 * Writes `seconds` of picture `id` (the camera repeats the file) and returns its path.
 * @param {{ id: number, width?: number, height?: number, fps?: number, seconds?: number }} picture
 */
export async function pictureFile({ id, width = 320, height = 180, fps = 15, seconds = 20 }) {
  await mkdir(OUT_DIR, { recursive: true });
  const path = `${OUT_DIR}picture-${id}.y4m`;
  const file = createWriteStream(path);
  file.write(`YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420jpeg\n`);
  for (let number = 0; number < fps * seconds; number += 1) {
    file.write('FRAME\n');
    if (!file.write(paint(new Uint8Array((width * height * 3) / 2), width, height, id, number))) await once(file, 'drain');
  }
  file.end();
  await once(file, 'finish');
  return path;
}

/**
 * Writes a mono WAV with `frequencyHz`, whole periods so that repeating it has no click, and returns its path.
 * @param {number} frequencyHz a multiple of 10
 */
export async function toneFile(frequencyHz) {
  await mkdir(OUT_DIR, { recursive: true });
  const path = `${OUT_DIR}tone-${frequencyHz}.wav`;
  const samples = SAMPLE_RATE_HZ * 2;
  const wav = Buffer.alloc(44 + samples * 2);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(36 + samples * 2, 4);
  wav.write('WAVEfmt ', 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(SAMPLE_RATE_HZ, 24);
  wav.writeUInt32LE(SAMPLE_RATE_HZ * 2, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write('data', 36);
  wav.writeUInt32LE(samples * 2, 40);
  for (let i = 0; i < samples; i += 1) wav.writeInt16LE(Math.round(12_000 * Math.sin((2 * Math.PI * frequencyHz * i) / SAMPLE_RATE_HZ)), 44 + i * 2);
  await writeFile(path, wav);
  return path;
}
