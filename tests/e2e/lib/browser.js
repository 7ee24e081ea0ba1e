// Headless Chromium with pages that hold a call, and the small web server that hands out the bare page.

import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { buildPage, PAGE_DIR, SCRIPTS } from './build.js';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
  '--use-fake-ui-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  '--autoplay-policy=no-user-gesture-required',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
];

/** @typedef {Awaited<ReturnType<typeof launchBrowser>>} TestBrowser */

/**
 * Starts one Chromium. `video` and `audio` are files that its fake camera and microphone play; they hold for the whole
 * browser, so two participants with different device pictures need two browsers.
 * @param {{ video?: string, audio?: string }} [capture]
 */
export async function launchBrowser({ video, audio } = {}) {
  const args = [...FLAGS, `--use-fake-device-for-media-stream=fps=15`];
  if (video) args.push(`--use-file-for-fake-video-capture=${video}`);
  if (audio) args.push(`--use-file-for-fake-audio-capture=${audio}`);
  const server = await chromium.launchServer({ executablePath: CHROMIUM, headless: false, args, ignoreDefaultArgs: ['--mute-audio', '--headless'] });
  const browser = await chromium.connect(server.wsEndpoint());
  return {
    newContext: (/** @type {import('playwright-core').BrowserContextOptions} */ options) => browser.newContext(options),
    /** Ends it in an orderly way; harmless after `kill`. */
    close: () => server.close().catch(() => {}),
    /** Ends it with SIGKILL: no page gets to say goodbye. */
    kill: () => server.kill(),
  };
}

/**
 * Serves the bare page on a free port.
 * @param {'lab' | 'full'} page
 */
export async function servePage(page = 'lab') {
  await buildPage(page);
  const server = createServer((request, response) => {
    const script = SCRIPTS.find((name) => request.url === `/${name}`);
    response.setHeader('content-type', script ? 'text/javascript' : 'text/html');
    createReadStream(`${PAGE_DIR}${script ?? (page === 'lab' ? 'index.html' : `${page}.html`)}`).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}/`,
    stop: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}
