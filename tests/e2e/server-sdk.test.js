// LiveKit's server API, called by its released Node server SDK while Chromium participants are in the room.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DataPacket_Kind, RoomServiceClient, TrackSource } from 'livekit-server-sdk';
import { lab } from './lib/lab.js';
import { DEV_KEY, DEV_SECRET, mintToken } from './lib/token.js';
import { until } from './lib/wait.js';

const { server, room, participant } = lab('server-sdk');

function service(secret = DEV_SECRET) {
  return new RoomServiceClient(server().httpUrl, DEV_KEY, secret);
}

/** Waits for the end of the call of a page. @param {import('./lib/participant.js').Participant} who @param {number} reason */
function isSentAway(who, reason) {
  return until(`${who.identity} is sent away`, () => who.lab('events'), (events) =>
    events.some((event) => event.name === 'disconnected' && Array.isArray(event.detail) && event.detail[0] === reason));
}

/** @param {Promise<unknown>} call @param {number} status @param {string} code */
async function isRefused(call, status, code) {
  await assert.rejects(call, (/** @type {any} */ error) => {
    assert.deepEqual([error.status, error.code], [status, code], error.message);
    return true;
  });
}

test('rooms are created with their settings, listed and deleted', async (t) => {
  const name = room();
  const created = await service().createRoom({ name, emptyTimeout: 60, departureTimeout: 7, maxParticipants: 1, metadata: 'm' });
  assert.deepEqual([created.name, created.emptyTimeout, created.departureTimeout, created.maxParticipants, created.metadata], [name, 60, 7, 1, 'm']);
  assert.ok(created.creationTime > 0n && created.sid.startsWith('RM_') && created.enabledCodecs.length > 0);
  const alice = await participant(t, name, 'alice');
  const bob = await participant(t, name, 'bob');
  await alice.join();
  const refused = await bob.lab('join', { url: server().wsUrl, token: mintToken({ room: name, identity: 'bob' }) });
  assert.ok(!refused.ok && /room-full/.test(refused.message), JSON.stringify(refused));
  const [listed] = await service().listRooms([name, `${name}-missing`]);
  assert.deepEqual([listed?.sid, listed?.numParticipants], [created.sid, 1]);
  await service().deleteRoom(name);
  await isSentAway(alice, 5);
  assert.deepEqual(await service().listRooms([name]), []);
  await isRefused(service().deleteRoom(name), 404, 'not_found');
});

test('a participant is described, muted, renamed and loses what it may no longer publish', async (t) => {
  const name = room();
  const [alice, bob] = [await participant(t, name, 'alice'), await participant(t, name, 'bob')];
  await Promise.all([alice.join(), bob.join()]);
  const sid = await alice.lab('publishTone', 440);
  await bob.hears('alice', 440);
  const info = await service().getParticipant(name, 'alice');
  assert.deepEqual(info.tracks.map((track) => [track.sid, track.source]), [[sid, TrackSource.MICROPHONE]]);
  assert.deepEqual((await service().listParticipants(name)).map((each) => each.identity).sort(), ['alice', 'bob']);

  assert.ok((await service().mutePublishedTrack(name, 'alice', sid, true)).muted);
  await bob.remote('alice is muted', 'alice', (a) => a?.tracks.microphone?.isMuted === true);
  await bob.hearsNothing('alice');
  await isRefused(service().mutePublishedTrack(name, 'alice', sid, false), 412, 'failed_precondition');
  await alice.lab('setMuted', 'microphone', false);
  await bob.hears('alice', 440);

  const attributes = { snake_case: '1', camelCase: '2' };
  const updated = await service().updateParticipant(name, 'alice', { name: 'Alice A.', metadata: 'seat 7', attributes });
  assert.deepEqual({ ...updated.attributes }, attributes);
  await bob.remote('alice has a new name', 'alice', (a) => a?.name === 'Alice A.' && a.metadata === 'seat 7' && a.attributes.camelCase === '2');

  await service().updateParticipant(name, 'alice', { permission: { canPublish: true, canSubscribe: true, canPublishSources: [TrackSource.CAMERA] } });
  await bob.remote('the microphone is gone', 'alice', (a) => a !== null && a.tracks.microphone === undefined);
  await alice.lab('publishPicture', { id: 31 });
  await bob.sees('alice', 31);
});

test('subscriptions follow the server', async (t) => {
  const name = room();
  const [alice, bob] = [await participant(t, name, 'alice'), await participant(t, name, 'bob')];
  await Promise.all([alice.join(), bob.join()]);
  const sid = await alice.lab('publishPicture', { id: 32 });
  await bob.sees('alice', 32);
  await service().updateSubscriptions(name, 'bob', [sid], false);
  await bob.remote('the picture is taken away', 'alice', (a) => a?.tracks.camera?.isSubscribed === false);
  await service().updateSubscriptions(name, 'bob', [sid], true);
  await bob.sees('alice', 32);
  await service().updateParticipant(name, 'bob', { permission: { canSubscribe: false, canPublish: true, canPublishData: true } });
  await bob.remote('nothing may be subscribed', 'alice', (a) => a?.tracks.camera?.isSubscribed === false);
  await service().updateParticipant(name, 'bob', { permission: { canSubscribe: true, canPublish: true, canPublishData: true } });
  await bob.sees('alice', 32);
});

test('data and metadata of the room come from the server', async (t) => {
  const name = room();
  const [alice, bob] = [await participant(t, name, 'alice'), await participant(t, name, 'bob')];
  await Promise.all([alice.join(), bob.join()]);
  const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text);
  await until('both get it', async () => {
    await service().sendData(name, bytes('to all'), DataPacket_Kind.RELIABLE, { topic: 'news' });
    return Promise.all([alice.lab('messages'), bob.lab('messages')]);
  }, (both) => both.every((messages) => messages.some((m) => m.text === 'to all' && m.topic === 'news' && m.from === '')), { pollMs: 200 });
  await service().sendData(name, bytes('only bob'), DataPacket_Kind.RELIABLE, { destinationIdentities: ['bob'] });
  await service().sendData(name, bytes('end'), DataPacket_Kind.RELIABLE, {});
  const [atAlice, atBob] = await until('the last one is everywhere', () => Promise.all([alice.lab('messages'), bob.lab('messages')]),
    (both) => both.every((messages) => messages.some((m) => m.text === 'end')));
  assert.ok(atBob.some((m) => m.text === 'only bob') && !atAlice.some((m) => m.text === 'only bob'));
  assert.equal((await service().updateRoomMetadata(name, 'topic')).metadata, 'topic');
  await isRefused(service().updateRoomMetadata(`${name}-missing`, 'x'), 404, 'not_found');
});

test('who is removed can not come back with the same token', async (t) => {
  const name = room();
  const [alice, bob] = [await participant(t, name, 'alice'), await participant(t, name, 'bob')];
  const token = mintToken({ room: name, identity: 'alice' });
  await Promise.all([alice.join({ token }), bob.join()]);
  await service().removeParticipant(name, 'alice');
  await isSentAway(alice, 4);
  await bob.remote('alice is gone', 'alice', (a) => a === null);
  const again = await alice.lab('join', { url: server().wsUrl, token });
  assert.ok(!again.ok && /token-revoked/.test(again.message), JSON.stringify(again));
  await isRefused(service().removeParticipant(name, 'alice'), 404, 'not_found');
});

test('a participant goes to another room without a new connection', async (t) => {
  const [name, there] = [room(), room()];
  const [alice, bob, carol] = [await participant(t, name, 'alice'), await participant(t, name, 'bob'), await participant(t, there, 'carol')];
  await Promise.all([alice.join(), bob.join()]);
  await alice.lab('publishPicture', { id: 33 });
  await bob.sees('alice', 33);
  await service().moveParticipant(name, 'alice', there);
  await bob.remote('alice is gone', 'alice', (a) => a === null);
  await carol.join();
  await carol.lab('publishTone', 660);
  await carol.sees('alice', 33);
  await alice.hears('carol', 660);
  assert.deepEqual((await alice.lab('state')).remotes, ['carol']);
  const names = await alice.eventNames();
  assert.ok(!names.includes('reconnecting') && !names.includes('disconnected'), `${names}`);
});

test('another secret opens nothing', async () => {
  await isRefused(service('guess').listRooms(), 401, 'unauthenticated');
});
