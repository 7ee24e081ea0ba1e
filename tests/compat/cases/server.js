// What applications ask of the server from their own servers, with both server SDKs.

import assert from 'node:assert/strict';
import { always, until } from '../../e2e/lib/wait.js';

/** @typedef {import('./index.js').Case} Case */
/** @typedef {import('../stage.js').Stage} Stage */
/** @typedef {import('node:test').TestContext} TestContext */

const SDKS = /** @type {const} */ (['server-node', 'server-python']);
const PICTURE_ID = 80;
const TONE_HZ = 600;
/** Long enough for a frame to show up that should not. */
const QUIET_MS = 600;

/** @param {Promise<unknown>} call */
const refusal = (call) => call.then(() => '', (error) => `${error.code ?? ''} ${error.message}`);

/** @param {(sdk: typeof SDKS[number]) => Case} make @returns {Case[]} */
const withBoth = (make) => SDKS.map(make);

/** @type {Case[]} */
export const server = [
  ...withBoth((sdk) => ({
    title: `${sdk} creates, lists, describes and deletes a room`,
    cells: ['create-room', 'list-rooms', 'room-metadata', 'delete-room'].map((row) => `${row}@${sdk}`),
    async run(t, stage) {
      const api = await stage.api(t, sdk);
      const name = stage.room();
      const made = await api.createRoom({ name, metadata: 'a quiet one', maxParticipants: 1, emptyTimeout: 120, departureTimeout: 7 });
      assert.deepEqual([made.name, made.metadata, made.maxParticipants, made.emptyTimeout, made.departureTimeout], [name, 'a quiet one', 1, 120, 7]);
      assert.match(made.sid, /^RM_/);
      assert.deepEqual((await api.listRooms([name])).map((room) => room.sid), [made.sid]);
      assert.deepEqual(await api.listRooms([`${name}-nowhere`]), []);
      const guest = await stage.participant(t, 'chromium', name, 'guest');
      await guest.join();
      await until('the guest sees the metadata', () => guest.do('roomState'), (room) => room.metadata === 'a quiet one');
      const late = await stage.participant(t, 'chromium', name, 'late');
      await assert.rejects(late.join(), 'the room is full');
      assert.equal((await api.updateRoomMetadata(name, 'a loud one')).metadata, 'a loud one');
      await until('the guest sees the new metadata', () => guest.do('roomState'), (room) => room.metadata === 'a loud one');
      await api.deleteRoom(name);
      await until('the guest is out', () => guest.do('state'), (state) => state.connection === 'disconnected');
      assert.deepEqual(await api.listRooms([name]), []);
    },
  })),
  ...withBoth((sdk) => ({
    title: `${sdk} lists, reads, updates and removes a participant`,
    cells: ['list-participants', 'get-participant', 'update-participant', 'update-permission', 'remove-participant'].map((row) => `${row}@${sdk}`),
    async run(t, stage) {
      const api = await stage.api(t, sdk);
      const [alice, bob] = await stage.together(t, ['chromium', 'python']);
      const trackSid = await alice.do('publishTone', TONE_HZ);
      const listed = await api.listParticipants(alice.room);
      assert.deepEqual(listed.map((who) => who.identity).sort(), ['chromium', 'python']);
      const read = await api.getParticipant(alice.room, 'chromium');
      assert.deepEqual([read.identity, read.canPublish, read.tracks], ['chromium', true, [{ sid: trackSid, isMuted: false }]]);
      await api.updateParticipant(alice.room, 'chromium', { name: 'Alice A.', metadata: 'seat 7', attributes: { hand: 'up' } });
      await bob.remote('the update', 'chromium', (seen) => seen?.name === 'Alice A.' && seen.metadata === 'seat 7' && seen.attributes['hand'] === 'up');
      await until('alice knows it herself', () => alice.do('me'), (me) => me.metadata === 'seat 7' && me.attributes['hand'] === 'up');
      await api.updateParticipant(alice.room, 'chromium', { canPublish: false });
      await until('alice may not publish', () => alice.do('me'), (me) => !me.canPublish);
      await bob.remote('her track is gone', 'chromium', (seen) => seen !== null && seen.tracks.microphone === undefined);
      await api.removeParticipant(alice.room, 'chromium');
      await until('alice is out', () => alice.do('state'), (state) => state.connection === 'disconnected');
      await bob.remote('alice is gone', 'chromium', (seen) => seen === null);
    },
  })),
  ...withBoth((sdk) => ({
    title: `${sdk} mutes a track and decides who is subscribed to it`,
    cells: ['mute-track', 'update-subscriptions'].map((row) => `${row}@${sdk}`),
    async run(t, stage) {
      const api = await stage.api(t, sdk);
      const [alice, bob] = await stage.together(t, ['chromium', 'chromium']);
      const [tone, picture] = [await alice.do('publishTone', TONE_HZ), await alice.do('publishPicture', { id: PICTURE_ID })];
      await Promise.all([bob.hears(alice.identity, TONE_HZ), bob.sees(alice.identity, PICTURE_ID)]);
      assert.deepEqual(await api.mutePublishedTrack(alice.room, alice.identity, tone, true), { sid: tone, isMuted: true });
      await bob.remote('muted', alice.identity, (seen) => seen?.tracks.microphone?.isMuted === true);
      await bob.hearsNothing(alice.identity);
      await until('alice knows it herself', () => alice.do('me'), (me) => me.tracks.some((track) => track.sid === tone && track.isMuted));
      await api.updateSubscriptions(alice.room, bob.identity, [picture], false);
      await until('bob is unsubscribed', () => bob.do('picture', alice.identity), (seen) => seen === null);
      await api.updateSubscriptions(alice.room, bob.identity, [picture], true);
      await bob.sees(alice.identity, PICTURE_ID);
    },
  })),
  ...withBoth((sdk) => ({
    title: `${sdk} sends data to all and to one`,
    cells: [`send-data@${sdk}`],
    async run(t, stage) {
      const api = await stage.api(t, sdk);
      const all = await stage.together(t, ['chromium', 'firefox', 'python', 'node']);
      const [first] = all;
      await api.sendData(first.room, 'only the first', 'news', [first.identity]);
      await api.sendData(first.room, 'for all', 'news', []);
      const lists = await until('all have it', () => Promise.all(all.map((who) => who.do('messages'))), (each) => each.every((list) => list.some((m) => m.text === 'for all' && m.topic === 'news')));
      assert.deepEqual(lists.map((list) => list.some((m) => m.text === 'only the first')), [true, false, false, false]);
    },
  })),
  ...withBoth((sdk) => ({
    title: `${sdk} moves a participant to another room, where it goes on`,
    cells: [`move-participant@${sdk}`],
    async run(t, stage) {
      const api = await stage.api(t, sdk);
      const [alice, bob] = await stage.together(t, ['chromium', 'chromium']);
      const there = await stage.participant(t, 'chromium', stage.room(), 'there');
      await there.join();
      await Promise.all([alice.do('publishPicture', { id: PICTURE_ID }), there.do('publishPicture', { id: PICTURE_ID + 1 })]);
      await bob.sees(alice.identity, PICTURE_ID);
      await api.moveParticipant(alice.room, alice.identity, there.room);
      await bob.remote('alice is gone', alice.identity, (seen) => seen === null);
      await Promise.all([there.sees(alice.identity, PICTURE_ID), alice.sees('there', PICTURE_ID + 1)]);
    },
  })),
  ...withBoth((sdk) => ({
    title: `${sdk} is refused with a wrong secret, and told what does not exist`,
    cells: [`api-errors@${sdk}`],
    async run(t, stage) {
      const api = await stage.api(t, sdk);
      const stranger = await stage.api(t, sdk, 'not the secret, but as long as one should be');
      assert.match(await refusal(stranger.listRooms([])), /unauthenticated|401|invalid/i);
      assert.match(await refusal(api.getParticipant(stage.room(), 'nobody')), /not.?found|not exist|404/i);
      const [alice] = await stage.together(t, ['chromium']);
      assert.match(await refusal(api.removeParticipant(alice.room, 'nobody')), /not.?found|not exist|404/i);
      await always('the room goes on', QUIET_MS, () => alice.do('state'), (state) => state.connection === 'connected');
    },
  })),
];
