// Runs every case of cases/ in one process: one server, one browser of each kind. Writes out/results.json.

import { mkdir, writeFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CASES } from './cases/index.js';
import { Stage } from './stage.js';

const OUT_DIR = fileURLToPath(new URL('out/', import.meta.url));
const stage = new Stage();
/** @type {{ title: string, cells: string[], passed: boolean, tookMs: number }[]} */
const results = [];

for (const { title, cells, run } of CASES) {
  test(title, async (t) => {
    const began = performance.now();
    const result = { title, cells, passed: false, tookMs: 0 };
    results.push(result);
    try {
      await run(t, stage);
      result.passed = true;
    } finally {
      result.tookMs = Math.round(performance.now() - began);
    }
  });
}

after(async () => {
  await stage.end();
  await mkdir(OUT_DIR, { recursive: true });
  await writeFile(`${OUT_DIR}results.json`, `${JSON.stringify(results, null, 2)}\n`);
});
