// The committed table says what the cases prove, no more and no less.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gaps, render, TABLE } from './table.js';

test('every cell of the table has a case that proves it or a reason', async () => {
  assert.deepEqual(await gaps(), []);
});

test('docs/compatibility.md is the table of the declared cases', async () => {
  assert.equal(await readFile(TABLE, 'utf8'), await render(), 'run `npm --prefix tests/compat test && npm --prefix tests/compat run table`');
});
