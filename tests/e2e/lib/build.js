// Bundles the bare page (page/*.ts and livekit-client) into out/page/.

import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const HERE = new URL('../', import.meta.url);
export const PAGE_DIR = fileURLToPath(new URL('out/page/', HERE));

/** What the page loads: its own script, with everything that the SDK offers, and the worker of end-to-end encryption. */
export const SCRIPTS = ['lab.js', 'full.js', 'e2ee-worker.js'];

/**
 * Builds the page; fast enough (about a second) to be done by every test file that needs it.
 * @param {'lab' | 'full'} page the name of its script in page/
 */
export async function buildPage(page = 'lab') {
  await mkdir(PAGE_DIR, { recursive: true });
  /** @type {{ in: string, out: string }[]} */
  const entryPoints = [{ in: fileURLToPath(new URL(`page/${page}.ts`, HERE)), out: page }];
  if (page === 'full') entryPoints.push({ in: 'livekit-client/e2ee-worker', out: 'e2ee-worker' });
  await build({ entryPoints, outdir: PAGE_DIR, absWorkingDir: fileURLToPath(HERE), bundle: true, format: 'iife', target: 'es2022', logLevel: 'warning' });
  await writeFile(`${PAGE_DIR}${page === 'lab' ? 'index' : page}.html`, `<!doctype html><meta charset="utf-8"><title>lab</title><body><script src="/${page}.js"></script>`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPage();
