// An agent on livekit-agents: registers as worker, is dispatched, hears, speaks, reads and writes.

import assert from 'node:assert/strict';
import { mintToken } from '../../e2e/lib/token.js';
import { until } from '../../e2e/lib/wait.js';
import { startEchoAgent } from '../drivers/agent.js';

/** @typedef {import('./index.js').Case} Case */
/** @typedef {import('../stage.js').Actor} Actor */

const NAME = 'echo';
const TONE_HZ = 700;

/** The agent's identity, once it is there. @param {Actor} who */
async function agentOf(who) {
  const state = await until('the agent is there', () => who.do('state'), (seen) => seen.remotes.some((identity) => identity.startsWith('agent-')), { withinMs: 20_000 });
  return state.remotes.find((identity) => identity.startsWith('agent-')) ?? '';
}

/** Speaks and writes to the agent, and waits for both echoes. @param {Actor} who @param {string} metadata of its job */
async function converse(who, metadata) {
  const agent = await agentOf(who);
  await who.do('publishTone', TONE_HZ);
  await who.hears(agent, TONE_HZ);
  await who.do('takeStreams', 'echo');
  await who.do('sendText', 'letters', 'hello');
  const echoes = await until('the agent writes back', () => who.do('arrived'), (arrived) => arrived.length > 0);
  assert.equal(echoes[0]?.text, `${who.identity} wrote: hello; the job says: ${metadata}`);
  return agent;
}

/** @type {Case[]} */
export const agents = [
  ...(/** @type {const} */ (['server-node', 'server-python'])).map((sdk) => ({
    title: `an agent that ${sdk} dispatches joins, hears, speaks, reads and writes, and leaves with its dispatch`,
    cells: [`dispatch@${sdk}`, 'agent-dispatch@agents', 'agent-echo@agents'],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      await stage.echoAgent(NAME);
      const api = await stage.api(t, sdk);
      const [alice] = await stage.together(t, ['chromium']);
      const id = await api.createDispatch(alice.room, NAME, 'be polite');
      const listed = (await api.listDispatch(alice.room)).filter((each) => each.agentName === NAME);
      assert.deepEqual(listed, [{ id, agentName: NAME, metadata: 'be polite' }]);
      const agent = await converse(alice, 'be polite');
      await api.deleteDispatch(id, alice.room);
      await alice.remote('the agent is gone', agent, (seen) => seen === null);
    },
  })),
  {
    title: 'an agent that a token names joins when the room opens',
    cells: ['agent-token@agents'],
    async run(t, stage) {
      await stage.echoAgent(NAME);
      const alice = await stage.participant(t, 'chromium', stage.room(), 'alice');
      const token = mintToken({ room: alice.room, identity: 'alice', roomConfig: { agents: [{ agentName: NAME, metadata: 'from the token' }] } });
      await alice.join({ token });
      await converse(alice, 'from the token');
    },
  },
  {
    title: 'an agent without a name joins every new room',
    cells: ['agent-automatic@agents'],
    async run(t, stage) {
      const agent = await startEchoAgent(await stage.server(), '');
      t.after(() => agent.stop());
      const [alice] = await stage.together(t, ['chromium']);
      await converse(alice, '');
    },
  },
];
