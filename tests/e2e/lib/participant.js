// One participant: a browser page with `window.lab`, and the questions that tests ask about it.

import assert from 'node:assert/strict';
import { mintToken } from './token.js';
import { until } from './wait.js';

/** Frames: the large keyframe of a change of size is paced, so it may show a moment that the smaller encoding has shown already. */
export const STEP_BACK_LIMIT = 3;

/** @typedef {import('../page/lab.ts').Source} Source */
/** @typedef {(typeof window.lab)} Lab */
/** @typedef {(typeof window.features)} Features */
/**
 * @typedef {object} JoinOptions
 * @property {string} [token] a ready token; otherwise one is minted
 * @property {Partial<Parameters<typeof mintToken>[0]>} [claims]
 * @property {import('livekit-client').RoomOptions} [options]
 * @property {boolean} [autoSubscribe]
 * @property {RTCConfiguration} [rtcConfig]
 */

export class Participant {
  /** @type {string[]} */
  faults = [];

  /**
   * @param {import('playwright-core').Page} page @param {import('./server.js').Server} server
   * @param {string} room @param {string} identity
   */
  constructor(page, server, room, identity) {
    this.page = page;
    this.server = server;
    this.room = room;
    this.identity = identity;
    page.on('pageerror', (error) => this.faults.push(error.message));
  }

  /**
   * Calls a method of the page's lab.
   * @template {keyof Lab} M
   * @param {M} method @param {Parameters<Lab[M]>} args
   * @returns {Promise<Awaited<ReturnType<Lab[M]>>>}
   */
  lab(method, ...args) {
    /** @type {any} */
    const call = { method, args };
    return this.page.evaluate((wanted) => /** @type {any} */ (window).lab[wanted.method](...wanted.args), call);
  }

  /**
   * Calls a method of the page's features.
   * @template {keyof Features} M
   * @param {M} method @param {Parameters<Features[M]>} args
   * @returns {Promise<Awaited<ReturnType<Features[M]>>>}
   */
  features(method, ...args) {
    /** @type {any} */
    const call = { method, args };
    return this.page.evaluate((wanted) => /** @type {any} */ (window).features[wanted.method](...wanted.args), call);
  }

  /** Joins and fails the test when the server refuses. @param {JoinOptions} [options] */
  async join({ token, claims = {}, options, autoSubscribe, rtcConfig } = {}) {
    const jwt = token ?? mintToken({ room: this.room, identity: this.identity, ...claims });
    const result = await this.lab('join', { url: this.server.wsUrl, token: jwt, options, autoSubscribe, rtcConfig });
    assert.ok(result.ok, `${this.identity} joins: ${JSON.stringify(result)}`);
    return result;
  }

  /**
   * Waits until the picture of `from` is read, carries `id` and moves on by at least `frames` frames.
   * `stepBackLimit`: how far it may step back. Without it: by `STEP_BACK_LIMIT` if the size has changed, as it does when somebody
   * begins, and not at all if it has not.
   * @param {string} from @param {number} id
   * @param {{ source?: Source, frames?: number, withinMs?: number, stepBackLimit?: number }} [limits]
   */
  async sees(from, id, { source = 'camera', frames = 15, withinMs = 15_000, stepBackLimit } = {}) {
    const start = await until(`${this.identity} sees ${source} of ${from}`, () => this.lab('picture', from, source), (p) => (p?.readable ?? 0) > 0, { withinMs });
    const target = (start?.readable ?? 0) + frames;
    const report = await until(`${this.identity} sees ${frames} frames of ${from}`, () => this.lab('picture', from, source), (p) => (p?.readable ?? 0) >= target, { withinMs });
    assert.ok(report);
    assert.deepEqual(report.ids, [id], `the ${source} of ${from} shows its own picture`);
    const limit = stepBackLimit ?? (report.sizes.length > 1 ? STEP_BACK_LIMIT : 0);
    assert.ok(report.backward === 0 || report.backwardBy <= limit, `frame numbers only grow, not back by ${report.backwardBy}`);
    assert.ok(report.lastNumber > (start?.lastNumber ?? 0), 'the picture moves');
    return report;
  }

  /**
   * Waits until the strongest tone from `from` is `hz`.
   * @param {string} from @param {number} hz @param {{ withinMs?: number }} [limits]
   */
  async hears(from, hz, { withinMs = 15_000 } = {}) {
    return until(`${this.identity} hears ${hz} Hz from ${from}`, () => this.lab('tone', from), (t) => t !== null && t.db > -60 && Math.abs(t.hz - hz) <= 12, { withinMs });
  }

  /** Waits until nothing is heard from `from`. @param {string} from */
  async hearsNothing(from) {
    return until(`${this.identity} hears nothing from ${from}`, () => this.lab('tone', from), (t) => t === null || t.db < -80);
  }

  /**
   * Waits for a state of a remote participant.
   * @param {string} claim @param {string} identity @param {(remote: import('../page/lab.ts').RemoteReport | null) => boolean} accept
   * @param {{ withinMs?: number }} [limits]
   */
  async remote(claim, identity, accept, limits) {
    return until(`${this.identity}: ${claim}`, () => this.lab('remote', identity), accept, limits);
  }

  /** Names of the room events so far. */
  async eventNames() {
    return (await this.lab('events')).map((event) => event.name);
  }

  async leave() {
    await this.lab('leave');
    await this.page.close();
  }
}
