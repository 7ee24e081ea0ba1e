// Waiting without sleeping blindly: a condition is polled until it holds or its deadline passes.

import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 50;

/**
 * Polls `probe` until `accept` says yes and returns that value. The error names the claim and the last value seen.
 * @template T
 * @param {string} claim what is waited for, as a sentence
 * @param {() => Promise<T> | T} probe
 * @param {(value: T) => boolean} [accept]
 * @param {{ withinMs?: number, pollMs?: number }} [limits]
 * @returns {Promise<T>}
 */
export async function until(claim, probe, accept = Boolean, { withinMs = 15_000, pollMs = POLL_MS } = {}) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const value = await probe();
    if (accept(value)) return value;
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${claim}; last seen: ${JSON.stringify(value)}`);
    await delay(pollMs);
  }
}

/**
 * Samples `probe` for `forMs` and fails at the first value that `holds` refuses: for "stays unaffected" claims.
 * @template T
 * @param {string} claim
 * @param {number} forMs
 * @param {() => Promise<T> | T} probe
 * @param {(value: T) => boolean} holds
 */
export async function always(claim, forMs, probe, holds) {
  const end = Date.now() + forMs;
  while (Date.now() < end) {
    const value = await probe();
    if (!holds(value)) throw new Error(`did not hold: ${claim}; seen: ${JSON.stringify(value)}`);
    await delay(POLL_MS * 4);
  }
}
