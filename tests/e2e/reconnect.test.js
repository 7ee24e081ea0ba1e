// What happens when a connection breaks or a client dies.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launchBrowser } from './lib/browser.js';
import { lab } from './lib/lab.js';
import { until } from './lib/wait.js';

const { room, participant } = lab('reconnect');

const GONE_WITHIN_MS = 30_000;
const RESUMED_WITHIN_MS = 20_000;
/** The media path does not depend on the signaling: its pictures go on meanwhile. */
const MEDIA_GAP_LIMIT_MS = 1000;

/** Alice (picture 81, 440 Hz) and bob (picture 82) in a call. @param {import('node:test').TestContext} t */
async function call(t) {
  const name = room();
  const alice = await participant(t, name, 'alice');
  const bob = await participant(t, name, 'bob');
  await Promise.all([alice.join(), bob.join()]);
  await Promise.all([alice.lab('publishPicture', { id: 81 }), alice.lab('publishTone', 440), bob.lab('publishPicture', { id: 82 })]);
  await Promise.all([bob.sees('alice', 81), bob.hears('alice', 440), alice.sees('bob', 82)]);
  return { name, alice, bob };
}

/** @param {import('./lib/participant.js').Participant} who */
async function resumed(who) {
  await until(`${who.identity} is back`, () => who.eventNames(), (names) => names.includes('reconnected'), { withinMs: RESUMED_WITHIN_MS });
  await until(`${who.identity} is connected`, () => who.lab('state'), (state) => state.connection === 'connected');
}

test('a cut WebSocket is resumed: the pictures go on and nobody is seen to leave', async (t) => {
  const { alice, bob } = await call(t);
  const { sid } = (await bob.lab('remote', 'alice')) ?? {};
  await Promise.all([alice.lab('resetPicture', 'bob'), bob.lab('resetPicture', 'alice')]);
  await alice.lab('cutSocket');
  await resumed(alice);
  const [atBob, atAlice] = await Promise.all([bob.sees('alice', 81), alice.sees('bob', 82)]);
  t.diagnostic(`longest gap: bob ${atBob.longestGapMs} ms, alice ${atAlice.longestGapMs} ms`);
  assert.ok(Math.max(atBob.longestGapMs, atAlice.longestGapMs) < MEDIA_GAP_LIMIT_MS);
  assert.ok(!(await bob.eventNames()).includes('participantDisconnected'));
  assert.equal((await bob.lab('remote', 'alice'))?.sid, sid, 'it is the same session');
  await alice.lab('setMuted', 'microphone', true);
  await bob.remote('the resumed session is heard', 'alice', (a) => a?.tracks.microphone?.isMuted === true);
});

test('what changed while the signaling was away is there after the resume', async (t) => {
  const { name, alice, bob } = await call(t);
  await alice.lab('setOffline', true);
  await until('alice notices', () => alice.eventNames(), (names) => names.some((n) => n === 'signalReconnecting' || n === 'reconnecting'));
  const carol = await participant(t, name, 'carol');
  await carol.join();
  await carol.lab('publishPicture', { id: 83 });
  await bob.lab('setMuted', 'camera', true);
  await bob.lab('describe', { metadata: 'changed' });
  await carol.remote('bob is muted', 'bob', (b) => b?.tracks.camera?.isMuted === true && b.metadata === 'changed');
  await alice.lab('setOffline', false);
  await resumed(alice);
  await alice.remote('bob is muted', 'bob', (b) => b?.tracks.camera?.isMuted === true && b.metadata === 'changed');
  await Promise.all([alice.sees('carol', 83), carol.sees('alice', 81)]);
});

test('a full reconnect brings both pictures and the tone back', async (t) => {
  const { alice, bob } = await call(t);
  await alice.lab('simulate', 'full-reconnect');
  await resumed(alice);
  await Promise.all([bob.sees('alice', 81), bob.hears('alice', 440), alice.sees('bob', 82)]);
  assert.deepEqual((await bob.lab('state')).remotes, ['alice'], 'alice is there once');
});

test('a second client with the same identity replaces the first', async (t) => {
  const { name, alice, bob } = await call(t);
  const again = await participant(t, name, 'alice');
  await again.join();
  await until('the first is disconnected', () => alice.lab('state'), (state) => state.connection === 'disconnected');
  await again.lab('publishPicture', { id: 84 });
  await bob.sees('alice', 84);
  assert.deepEqual((await bob.lab('state')).remotes, ['alice']);
});

test('a participant who leaves is gone at once', async (t) => {
  const { alice, bob } = await call(t);
  await alice.lab('leave');
  await bob.remote('alice is gone', 'alice', (a) => a === null, { withinMs: 2000 });
});

test('a killed client is gone for the others in time, and the others go on', async (t) => {
  const name = room();
  const doomed = await launchBrowser();
  t.after(() => doomed.close());
  const alice = await participant(t, name, 'alice', doomed);
  const bob = await participant(t, name, 'bob');
  const carol = await participant(t, name, 'carol');
  await Promise.all([alice.join(), bob.join(), carol.join()]);
  await Promise.all([alice.lab('publishPicture', { id: 85 }), carol.lab('publishPicture', { id: 86 })]);
  await Promise.all([bob.sees('alice', 85), bob.sees('carol', 86)]);
  await doomed.kill();
  const killedAt = Date.now();
  await bob.remote('alice is gone', 'alice', (a) => a === null, { withinMs: GONE_WITHIN_MS });
  t.diagnostic(`gone after ${Date.now() - killedAt} ms`);
  await bob.sees('carol', 86);
});
