// What happens to a track during its life: mute, unmute, unsubscribe, unpublish, screen share; who speaks.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab } from './lib/lab.js';
import { until } from './lib/wait.js';

const { room, participant } = lab('tracks');

/** Alice publishes picture 51 and 440 Hz, bob receives. @param {import('node:test').TestContext} t */
async function aliceAndBob(t) {
  const name = room();
  const alice = await participant(t, name, 'alice');
  const bob = await participant(t, name, 'bob');
  await Promise.all([alice.join(), bob.join()]);
  await Promise.all([alice.lab('publishPicture', { id: 51 }), alice.lab('publishTone', 440)]);
  await Promise.all([bob.sees('alice', 51), bob.hears('alice', 440)]);
  return { alice, bob };
}

test('a muted microphone is silent and shown as muted until it is unmuted', async (t) => {
  const { alice, bob } = await aliceAndBob(t);
  await alice.lab('setMuted', 'microphone', true);
  await bob.remote('the microphone is muted', 'alice', (a) => a?.tracks.microphone?.isMuted === true);
  await bob.hearsNothing('alice');
  await alice.lab('setMuted', 'microphone', false);
  await bob.remote('the microphone is on', 'alice', (a) => a?.tracks.microphone?.isMuted === false);
  await bob.hears('alice', 440);
});

test('a muted camera stops and its picture comes back after unmuting', async (t) => {
  const { alice, bob } = await aliceAndBob(t);
  await alice.lab('setMuted', 'camera', true);
  await bob.remote('the camera is muted', 'alice', (a) => a?.tracks.camera?.isMuted === true);
  await alice.lab('setMuted', 'camera', false);
  await bob.remote('the camera is on', 'alice', (a) => a?.tracks.camera?.isMuted === false);
  await bob.sees('alice', 51);
});

test('an unsubscribed track stops for that subscriber and comes back', async (t) => {
  const { bob } = await aliceAndBob(t);
  bob.lab('setSubscribed', 'alice', 'camera', false);
  await until('the track is gone for bob', () => bob.lab('picture', 'alice'), (picture) => picture === null);
  bob.lab('setSubscribed', 'alice', 'camera', true);
  await bob.sees('alice', 51);
  await bob.hears('alice', 440);
});

test('an unpublished track disappears, the other stays, and a new one takes its place', async (t) => {
  const { alice, bob } = await aliceAndBob(t);
  await alice.lab('unpublish', 'camera');
  await bob.remote('the camera is gone', 'alice', (a) => a !== null && a.tracks.camera === undefined);
  await bob.hears('alice', 440);
  await alice.lab('publishPicture', { id: 52 });
  await bob.sees('alice', 52);
});

test('a screen share is a second picture beside the camera', async (t) => {
  const { alice, bob } = await aliceAndBob(t);
  await alice.lab('publishScreen', { id: 53 });
  await Promise.all([bob.sees('alice', 53, { source: 'screen_share' }), bob.sees('alice', 51)]);
  await alice.lab('unpublish', 'screen_share');
  await bob.remote('the screen is gone', 'alice', (a) => a !== null && a.tracks.screen_share === undefined);
  await bob.sees('alice', 51);
});

test('the speaking participant is announced, and no one after the microphone is muted', async (t) => {
  const { alice, bob } = await aliceAndBob(t);
  await bob.remote('alice speaks', 'alice', (a) => a?.isSpeaking === true);
  await alice.lab('setMuted', 'microphone', true);
  await bob.remote('alice does not speak', 'alice', (a) => a?.isSpeaking === false);
});

test('a changed name, metadata and attributes reach the others', async (t) => {
  const { alice, bob } = await aliceAndBob(t);
  await alice.lab('describe', { name: 'Alice B.', metadata: 'new', attributes: { hand: 'up' } });
  const seen = await bob.remote('all three changed', 'alice', (a) => a?.name === 'Alice B.' && a.metadata === 'new' && a.attributes.hand === 'up');
  assert.ok(seen);
});
