// Bundles the bare page (page/*.ts and livekit-client) into out/page/.

import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const HERE = new URL('../', import.meta.url);
export const PAGE_DIR = fileURLToPath(new URL('out/page/', HERE));

/** Builds the page; fast enough (about a second) to be done by every test file that needs it. */
export async function buildPage() {
  await mkdir(PAGE_DIR, { recursive: true });
  await build({
    entryPoints: [fileURLToPath(new URL('page/lab.ts', HERE))],
    outfile: `${PAGE_DIR}lab.js`,
    bundle: true,
    format: 'iife',
    target: 'chrome120',
    logLevel: 'warning',
  });
  await writeFile(`${PAGE_DIR}index.html`, '<!doctype html><meta charset="utf-8"><title>lab</title><body><script src="/lab.js"></script>');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildPage();
