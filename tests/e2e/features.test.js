// What livekit-client offers beside audio and video, through the server: RPC, streams, data tracks, permissions, quality.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab } from './lib/lab.js';
import { until } from './lib/wait.js';

const { room, participant, server } = lab('features');

const MEGABYTE = 1_000_000;
const NUMBERS = 120;

/** @typedef {import('./lib/participant.js').Participant} Who */

/** @param {import('node:test').TestContext} t @param {string[]} identities at most three */
async function people(t, ...identities) {
  return joined(t, {}, ...identities);
}

/** @param {import('node:test').TestContext} t @param {import('livekit-client').RoomOptions} options @param {string[]} identities */
async function joined(t, options, ...identities) {
  const name = room();
  const all = await Promise.all(identities.map((identity) => participant(t, name, identity)));
  await Promise.all(all.map(async (one) => {
    await one.join({ options });
    await one.features('listen');
  }));
  for (const one of all) {
    for (const other of all) if (other !== one) await one.remote(`${other.identity} is there`, other.identity, (p) => p !== null);
  }
  return /** @type {[Who, Who, Who]} */ (all);
}

test('an RPC call reaches one participant and comes back with its answer or its refusal', async (t) => {
  const [alice, bob, carol] = await people(t, 'alice', 'bob', 'carol');
  await Promise.all([bob.features('answerCalls', 'reverse'), carol.features('answerCalls', 'reverse')]);
  assert.deepEqual(await alice.features('call', 'bob', 'reverse', 'abc'), { ok: true, answer: 'alice:cba' });
  assert.deepEqual(await bob.features('call', 'carol', 'reverse', 'xyz'), { ok: true, answer: 'bob:zyx' });
  const long = 'é'.repeat(5000);
  assert.deepEqual(await alice.features('call', 'carol', 'reverse', long), { ok: true, answer: `alice:${long}` });
  const refused = await alice.features('call', 'bob', 'reverse', '');
  assert.ok(!refused.ok && refused.code === 1500, JSON.stringify(refused));
  const unknown = await alice.features('call', 'bob', 'no such method', 'x');
  assert.ok(!unknown.ok && unknown.code === 1400, JSON.stringify(unknown));
});

test('a text of many chunks arrives whole and says who wrote it', async (t) => {
  const [alice, bob, carol] = await people(t, 'alice', 'bob', 'carol');
  const text = Array.from({ length: 9000 }, (_, i) => `${i}. 日本語 `).join('');
  await alice.features('sendText', text);
  const atBob = await until('the text arrives', () => bob.features('texts'), (texts) => texts.length === 1);
  assert.ok(atBob[0]?.text === text && atBob[0].from === 'alice' && atBob[0].topic === 'text');
  await alice.features('sendText', 'only bob', ['bob']);
  await alice.features('sendText', 'end');
  await until('the last text is everywhere', () => carol.features('texts'), (texts) => texts.some((each) => each.text === 'end'));
  assert.ok(!(await carol.features('texts')).some((each) => each.text === 'only bob'));
  assert.ok((await bob.features('texts')).some((each) => each.text === 'only bob'));
});

test('a byte stream of a megabyte arrives without a byte changed', async (t) => {
  const [alice, bob] = await people(t, 'alice', 'bob');
  const digest = await alice.features('sendFile', 'noise.bin', MEGABYTE);
  const files = await until('the file arrives', () => bob.features('files'), (all) => all.length === 1, { withinMs: 30_000 });
  assert.deepEqual(files, [{ from: 'alice', name: 'noise.bin', bytes: MEGABYTE, digest }]);
});

for (const singlePeerConnection of [true, false]) test(`reliable packets survive cut sockets of both sides (${singlePeerConnection ? 'one peer connection' : 'two'}): none is lost, none comes twice, all in order`, async (t) => {
  const [alice, bob] = await joined(t, { singlePeerConnection }, 'alice', 'bob');
  const sending = alice.features('sendNumbers', NUMBERS, 25);
  const numbers = async () => (await bob.lab('messages')).map((message) => message.text).filter((text) => text.startsWith('n'));
  await until('some have arrived', numbers, (texts) => texts.length > 10);
  await alice.lab('cutSocket');
  await until('alice is back', () => alice.eventNames(), (names) => names.includes('reconnected'), { withinMs: 20_000 });
  await bob.lab('cutSocket');
  await sending;
  await until('bob is back', () => bob.eventNames(), (names) => names.includes('reconnected'), { withinMs: 20_000 });
  const received = await until('all have arrived', numbers, (texts) => texts.length >= NUMBERS, { withinMs: 20_000 });
  assert.deepEqual(received, Array.from({ length: NUMBERS }, (_, number) => `n${number}`));
});

test('a data track is published, subscribed and ended', async (t) => {
  const [alice, bob, carol] = await people(t, 'alice', 'bob', 'carol');
  const sid = await alice.features('publishDataTrack', 'position');
  assert.match(sid, /^DTR_/);
  await carol.features('publishDataTrack', 'heading');
  for (const one of [bob, carol]) await until('the track is seen', () => one.features('dataTracks'), (names) => names.includes('position'));
  await until('the other track is seen', () => bob.features('dataTracks'), (names) => names.includes('heading'));
  await Promise.all([bob.features('subscribeDataTrack', 'position'), bob.features('subscribeDataTrack', 'heading')]);
  const large = 'x'.repeat(40_000);
  // Packets are lossy and nobody says when a subscription is up, so frames are repeated until they come.
  for (const [from, name, text] of /** @type {const} */ ([[alice, 'position', 'north'], [carol, 'heading', 'up'], [alice, 'position', large]])) {
    await until(`a frame of ${name} arrives`, async () => {
      await from.features('pushFrame', name, text);
      return bob.features('frames', name);
    }, (frames) => frames.includes(text), { pollMs: 200 });
  }
  assert.ok((await bob.features('frames', 'heading')).every((frame) => frame === 'up'), 'the tracks are not mixed up');
  await alice.features('unpublishDataTrack', 'position');
  await until('the track is gone', () => bob.features('dataTracks'), (names) => !names.includes('position'));
});

test('a publisher lets in whom it wants, and takes that back', async (t) => {
  const [alice, bob, carol] = await people(t, 'alice', 'bob', 'carol');
  await alice.features('allowSubscribers', false, [{ participantIdentity: 'bob', allowAll: true }]);
  await alice.lab('publishPicture', { id: 91 });
  await bob.sees('alice', 91);
  await until('carol is told', () => carol.features('permissionChanges'), (changes) => changes.some((c) => c.identity === 'alice' && c.status === 'not_allowed'));
  assert.equal(await carol.lab('picture', 'alice'), null);
  await alice.features('allowSubscribers', true);
  await carol.sees('alice', 91);
  await alice.features('allowSubscribers', false, [{ participantIdentity: 'carol', allowAll: true }]);
  await bob.remote('bob has lost it', 'alice', (a) => a?.tracks.camera?.isSubscribed === false);
  await carol.sees('alice', 91);
});

test('everybody learns how well they and their publishers are connected', async (t) => {
  const [alice, bob] = await people(t, 'alice', 'bob');
  await Promise.all([alice.lab('publishPicture', { id: 92 }), alice.lab('publishTone', 440)]);
  await bob.sees('alice', 92);
  for (const [who, of] of /** @type {const} */ ([[alice, 'alice'], [bob, 'bob'], [bob, 'alice']])) {
    const told = await until(`${who.identity} knows of ${of}`, () => who.features('qualities'), (all) => all.some((each) => each.identity === of), { withinMs: 20_000 });
    assert.equal(told.filter((each) => each.identity === of).at(-1)?.quality, 'excellent');
  }
  await alice.lab('setOffline', true);
  await until('alice is lost', () => bob.features('qualities'), (all) => all.filter((each) => each.identity === 'alice').at(-1)?.quality === 'lost');
  await alice.lab('setOffline', false);
  await until('alice is found', () => bob.features('qualities'), (all) => all.filter((each) => each.identity === 'alice').at(-1)?.quality !== 'lost', { withinMs: 20_000 });
});

test('a camera that stops is a paused stream until it goes on', async (t) => {
  const [alice, bob] = await people(t, 'alice', 'bob');
  await alice.lab('publishPicture', { id: 93 });
  await bob.sees('alice', 93);
  await alice.features('replaceWithNothing');
  await until('bob is told', () => bob.features('streamStates'), (states) => states.at(-1)?.state === 'paused', { withinMs: 20_000 });
});

test('a client that asks for TCP comes back over TCP', async (t) => {
  const [alice, bob] = await people(t, 'alice', 'bob');
  await Promise.all([alice.lab('publishPicture', { id: 94 }), bob.lab('publishPicture', { id: 95 })]);
  await Promise.all([bob.sees('alice', 94), alice.sees('bob', 95)]);
  assert.ok((await alice.features('protocols')).every((protocol) => protocol === 'udp'));
  await alice.lab('simulate', 'force-tcp');
  const protocols = () => alice.features('protocols');
  await until('alice is on TCP', protocols, (all) => all.length > 0 && all.every((protocol) => protocol === 'tcp'), { withinMs: 30_000 });
  await Promise.all([bob.sees('alice', 94), alice.sees('bob', 95)]);
});

test('the regions of a server are told to who has a token', async (t) => {
  const { mintToken } = await import('./lib/token.js');
  const token = mintToken({ room: room(), identity: 'alice' });
  const [alice] = await people(t, 'alice');
  // From a page of another origin, as livekit-client asks.
  const ask = (/** @type {string} */ bearer) =>
    alice.page.evaluate(async ([url, authorization]) => {
      const response = await fetch(`${url}/settings/regions`, { headers: { authorization: authorization ?? '' } });
      return { status: response.status, body: response.ok ? await response.json() : null };
    }, [server().httpUrl, bearer]);
  const answer = await ask(`Bearer ${token}`);
  assert.equal(answer.status, 200);
  assert.equal(answer.body.regions[0].url, server().wsUrl);
  assert.equal((await ask('Bearer nonsense')).status, 401);
});
