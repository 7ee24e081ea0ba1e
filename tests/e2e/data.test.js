// Data packets through the SFU's data channels.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab } from './lib/lab.js';
import { until } from './lib/wait.js';

const { room, participant } = lab('data');
const BURST = 100;
const LARGE_CHARS = 14_000;

for (const reliable of [true, false]) {
  test(`${reliable ? 'reliable' : 'lossy'} packets reach the other side both ways`, async (t) => {
    const name = room();
    const alice = await participant(t, name, 'alice');
    const bob = await participant(t, name, 'bob');
    await Promise.all([alice.join(), bob.join()]);
    await alice.remote('bob is there', 'bob', (b) => b !== null);
    await bob.remote('alice is there', 'alice', (a) => a !== null);
    // A lossy packet may be lost while the channels open, so each side repeats until the other has it.
    for (const [from, to, text] of /** @type {const} */ ([[alice, bob, 'hello bob'], [bob, alice, 'hello alice']])) {
      await until(`${text} arrives`, async () => {
        await from.lab('send', text, { reliable, topic: 'greeting' });
        return to.lab('messages');
      }, (messages) => messages.some((m) => m.text === text && m.from === from.identity && m.topic === 'greeting'), { pollMs: 200 });
    }
  });
}

test('reliable packets arrive once, in order, also large ones', async (t) => {
  const name = room();
  const alice = await participant(t, name, 'alice');
  const bob = await participant(t, name, 'bob');
  await Promise.all([alice.join(), bob.join()]);
  await bob.remote('alice is there', 'alice', (a) => a !== null);
  await until('the channel is open', async () => {
    await alice.lab('send', 'open?', { reliable: true });
    return bob.lab('messages');
  }, (messages) => messages.length > 0, { pollMs: 200 });
  const texts = Array.from({ length: BURST }, (_, i) => (i % 10 === 0 ? `${i}:`.padEnd(LARGE_CHARS, 'x') : `${i}:`));
  for (const text of texts) await alice.lab('send', text, { reliable: true });
  const wanted = (/** @type {{ text: string }[]} */ messages) => messages.map((m) => m.text).filter((text) => text !== 'open?');
  const messages = await until('all arrive', () => bob.lab('messages'), (all) => wanted(all).length >= BURST);
  assert.deepEqual(wanted(messages), texts);
});

test('a packet for one participant does not reach the others', async (t) => {
  const name = room();
  const [alice, bob, carol] = [await participant(t, name, 'alice'), await participant(t, name, 'bob'), await participant(t, name, 'carol')];
  await Promise.all([alice.join(), bob.join(), carol.join()]);
  await alice.remote('bob is there', 'bob', (b) => b !== null);
  await alice.remote('carol is there', 'carol', (c) => c !== null);
  await until('both channels are open', async () => {
    await alice.lab('send', 'to all', { reliable: true });
    return Promise.all([bob.lab('messages'), carol.lab('messages')]);
  }, (both) => both.every((messages) => messages.length > 0), { pollMs: 200 });
  await alice.lab('send', 'only bob', { reliable: true, destinationIdentities: ['bob'] });
  await alice.lab('send', 'end', { reliable: true });
  const [atBob, atCarol] = await until('the last packet is everywhere', () => Promise.all([bob.lab('messages'), carol.lab('messages')]),
    (both) => both.every((messages) => messages.some((m) => m.text === 'end')));
  assert.ok(atBob.some((m) => m.text === 'only bob'));
  assert.ok(!atCarol.some((m) => m.text === 'only bob'));
});
