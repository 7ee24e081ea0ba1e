// All cases, in the order in which they run.

import { agents } from './agents.js';
import { codecs } from './codecs.js';
import { connection } from './connection.js';
import { encryption } from './encryption.js';
import { layers } from './layers.js';
import { messaging } from './messaging.js';
import { server } from './server.js';
import { state } from './state.js';

/**
 * @typedef {object} Case
 * @property {string} title the claim
 * @property {string[]} cells of the table that it proves: `row@column`
 * @property {(t: import('node:test').TestContext, stage: import('../stage.js').Stage) => Promise<void>} run
 */

/** @type {Case[]} */
export const CASES = [...codecs, ...layers, ...messaging, ...state, ...encryption, ...connection, ...server, ...agents];
