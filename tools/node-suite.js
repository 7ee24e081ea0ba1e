// Runs the node tests of one folder (`node tools/node-suite.js tests/e2e`) and ends with its totals.
//
// Browsers and SDKs that are not ours fail by themselves once in a while. So what fails is run once more, alone: if it
// passes then it counts as passed AND as unsteady, which the totals show; a test that fails twice has failed. More than
// SECOND_RUNS failures are no accident and are not run again.

import { createWriteStream } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import process from 'node:process';
import { run } from 'node:test';
import { junit, spec } from 'node:test/reporters';

const SECOND_RUNS = 3;

/** @typedef {{ name: string, file: string }} Case */

/**
 * One pass over `files`; returns what passed, failed and was skipped at the top level.
 * @param {string[]} files @param {string} junitFile @param {RegExp[]} [only]
 */
async function pass(files, junitFile, only) {
  /** @type {Case[]} */
  const failed = [];
  let passed = 0;
  let skipped = 0;
  const events = run({ files, concurrency: 1, ...(only && { testNamePatterns: only }) });
  events.on('test:pass', (t) => {
    if (t.nesting > 0 || t.details?.type === 'suite') return;
    if (t.skip !== undefined || t.todo !== undefined) skipped += 1;
    else passed += 1;
  });
  events.on('test:fail', (t) => {
    if (t.nesting === 0) failed.push({ name: t.name, file: t.file ?? '' });
  });
  events.compose(junit).pipe(createWriteStream(junitFile));
  for await (const text of events.compose(new spec())) process.stdout.write(text);
  return { passed, failed, skipped };
}

/** A pattern that matches just this name. @param {string} name */
const exactly = (name) => new RegExp(`^${name.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')}$`);

process.chdir(process.argv[2] ?? '.');
await mkdir('out', { recursive: true });
const files = (await readdir('.')).filter((name) => name.endsWith('.test.js')).sort().map((name) => path.resolve(name));
const first = await pass(files, 'out/junit.xml');
let { failed } = first;
let unsteady = 0;
if (failed.length > 0 && failed.length <= SECOND_RUNS) {
  const again = failed;
  failed = [];
  for (const [at, { name, file }] of again.entries()) {
    console.log(`\nonce more, alone: ${name}`);
    const second = await pass([file], `out/junit-again-${at}.xml`, [exactly(name)]);
    if (second.passed === 1 && second.failed.length === 0) unsteady += 1;
    else failed.push({ name, file });
  }
}
for (const { name } of failed) console.log(`failed: ${name}`);
console.log(`totals: ${first.passed + unsteady} passed, ${failed.length} failed, ${first.skipped} skipped, ${unsteady} unsteady`);
process.exitCode = failed.length > 0 ? 1 : 0;
