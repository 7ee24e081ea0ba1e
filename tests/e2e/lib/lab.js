// Wires a test file together: one server, one page server, one browser, and participants in it.

import { after, before } from 'node:test';
import { launchBrowser, servePage } from './browser.js';
import { Participant } from './participant.js';
import { startServer } from './server.js';

let rooms = 0;

/**
 * Registers the setup and teardown of a test file and returns what the tests use.
 * @param {string} name of the test file, for logs and room names
 * @param {{ settings?: Record<string, string> }} [options]
 */
export function lab(name, { settings } = {}) {
  /** @type {import('./server.js').Server} */
  let server;
  /** @type {Awaited<ReturnType<typeof servePage>>} */
  let site;
  /** @type {import('./browser.js').TestBrowser} */
  let browser;

  before(async () => {
    [server, site, browser] = await Promise.all([startServer(name, settings), servePage(), launchBrowser()]);
  });
  after(async () => {
    await browser?.close();
    await site?.stop();
    await server?.stop();
  });

  return {
    server: () => server,
    pageUrl: () => site.url,
    room: () => `${name}-${process.pid}-${(rooms += 1)}`,
    /**
     * Opens a page for a participant who has not joined yet; `t.after` closes it.
     * @param {import('node:test').TestContext} t @param {string} room @param {string} identity
     * @param {import('./browser.js').TestBrowser} [where]
     */
    async participant(t, room, identity, where = browser) {
      const context = await where.newContext({ viewport: { width: 800, height: 600 } });
      t.after(() => context.close().catch(() => {}));
      const page = await context.newPage();
      await page.goto(site.url);
      return new Participant(page, server, room, identity);
    },
  };
}
