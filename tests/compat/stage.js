// What all cases share: one server, one process of each client, started when the first case needs it.

import { launchBrowser, servePage } from '../e2e/lib/browser.js';
import { Participant } from '../e2e/lib/participant.js';
import { startServer } from '../e2e/lib/server.js';
import { DEV_KEY, DEV_SECRET, mintToken } from '../e2e/lib/token.js';
import { startEchoAgent } from './drivers/agent.js';
import { launchFirefox } from './drivers/firefox.js';
import { NodeApi } from './drivers/server_api.js';
import { startNodeWorker, startPythonWorker } from './drivers/worker.js';

/** @typedef {'chromium' | 'firefox' | 'python' | 'node'} Client */
/** @typedef {import('../e2e/page/full.ts').FullLab} FullLab */
/** @typedef {import('node:test').TestContext} TestContext */

export class Stage {
  /** In the order in which they were started. @type {Map<string, { running: Promise<any>, stop: (running: any) => Promise<unknown> }>} */
  #parts = new Map();
  #rooms = 0;
  #participants = 0;

  /** @returns {Promise<import('../e2e/lib/server.js').Server>} */
  server() {
    return this.#part('server', () => startServer('compat'), (server) => server.stop());
  }

  room() {
    return `compat-${process.pid}-${(this.#rooms += 1)}`;
  }

  /**
   * A participant who has not joined yet, named after its client unless told; leaves at the end of the test.
   * @param {TestContext} t @param {Client} client @param {string} room @param {string} [identity]
   */
  async participant(t, client, room, identity = client) {
    const { page, close } = await this.#page(client);
    t.after(() => close().catch(() => {}));
    return new Actor(page, await this.server(), room, identity, client);
  }

  /**
   * Participants who have joined one new room and see each other. Names that two clients share get a number.
   * @template {readonly Client[]} const C
   * @param {TestContext} t @param {C} clients @param {Parameters<Participant['join']>[0]} [options]
   * @returns {Promise<{ -readonly [K in keyof C]: Actor }>}
   */
  async together(t, clients, options) {
    const room = this.room();
    const all = await Promise.all(clients.map((client, at) => this.participant(t, client, room, clients.indexOf(client) === at ? client : `${client}-${at}`)));
    await Promise.all(all.map((who) => who.join(options)));
    await Promise.all(all.flatMap((who) => all.filter((other) => other !== who).map((other) => who.remote(`${other.identity} is there`, other.identity, (seen) => seen !== null))));
    return /** @type {any} */ (all);
  }

  /**
   * The server's API, as a server SDK calls it.
   * @param {TestContext} t @param {'server-node' | 'server-python'} sdk @param {string} [secret]
   * @returns {Promise<NodeApi>}
   */
  async api(t, sdk, secret = DEV_SECRET) {
    const { httpUrl } = await this.server();
    if (sdk === 'server-node') return new NodeApi(httpUrl, secret);
    const worker = await this.#part('python', startPythonWorker, (running) => running.stop());
    const page = worker.page(`api-${(this.#participants += 1)}`);
    t.after(() => page.close().catch(() => {}));
    const call = (/** @type {string} */ method, /** @type {unknown[]} */ args) => page.evaluate(null, { method, args });
    await call('open', [httpUrl, DEV_KEY, secret]);
    const methods = Object.getOwnPropertyNames(NodeApi.prototype).filter((name) => name !== 'constructor');
    return /** @type {any} */ (Object.fromEntries(methods.map((method) => [method, (/** @type {unknown[]} */ ...args) => call(method, args)])));
  }

  /** The echo agent for explicit dispatch, registered. @param {string} name */
  async echoAgent(name) {
    const server = await this.server();
    return this.#part(`agent ${name}`, () => startEchoAgent(server, name), (running) => running.stop());
  }

  /** Ends what was started, also what is still starting. */
  async end() {
    for (const { running, stop } of [...this.#parts.values()].reverse()) await running.then(stop, () => {});
  }

  /** @param {Client} client */
  async #page(client) {
    if (client === 'python' || client === 'node') {
      const worker = await this.#part(client, client === 'python' ? startPythonWorker : startNodeWorker, (running) => running.stop());
      const page = worker.page(`${client}-${(this.#participants += 1)}`);
      return { page, close: () => page.close() };
    }
    const site = await this.#part('site', () => servePage('full'), (running) => running.stop());
    if (client === 'firefox') {
      const firefox = await this.#part('firefox', launchFirefox, (running) => running.close());
      return firefox.page(site.url);
    }
    const chromium = await this.#part('chromium', () => launchBrowser(), (running) => running.close());
    const context = await chromium.newContext({ viewport: { width: 800, height: 600 } });
    const page = await context.newPage();
    await page.goto(site.url);
    return { page, close: () => context.close() };
  }

  /**
   * @template T
   * @param {string} name @param {() => Promise<T>} start @param {(running: T) => Promise<unknown>} stop
   * @returns {Promise<T>}
   */
  #part(name, start, stop) {
    const part = this.#parts.get(name) ?? { running: start(), stop };
    this.#parts.set(name, part);
    return part.running;
  }
}

/** A participant on any client, with the methods of the full page as far as its SDK has them. */
export class Actor extends Participant {
  /**
   * @param {any} page @param {import('../e2e/lib/server.js').Server} server @param {string} room @param {string} identity @param {Client} client
   */
  constructor(page, server, room, identity, client) {
    super(page, server, room, identity);
    this.client = client;
  }

  /**
   * Calls a method of the full page.
   * @template {keyof FullLab} M
   * @param {M} method @param {Parameters<FullLab[M]>} args
   * @returns {Promise<Awaited<ReturnType<FullLab[M]>>>}
   */
  do(method, ...args) {
    return /** @type {any} */ (this).lab(method, ...args);
  }

  /** Joins with end-to-end encryption. @param {string} passphrase @param {Parameters<FullLab['join']>[0]['options']} [options] */
  async joinEncrypted(passphrase, options) {
    const token = mintToken({ room: this.room, identity: this.identity });
    const result = await this.do('join', { url: this.server.wsUrl, token, passphrase, options });
    if (!result.ok) throw new Error(`${this.identity} joins: ${JSON.stringify(result)}`);
  }
}
