// Who is there, what they say about themselves, what they may do, and what they choose to see.

import assert from 'node:assert/strict';
import { always, until } from '../../e2e/lib/wait.js';

/** @typedef {import('../stage.js').Client} Client */
/** @typedef {import('../stage.js').Actor} Actor */
/** @typedef {import('./index.js').Case} Case */

/** @type {['chromium', 'firefox', 'python', 'node']} */
const ALL = ['chromium', 'firefox', 'python', 'node'];
const PICTURE_ID = 50;
/** Long enough for a frame to show up that should not. */
const QUIET_MS = 600;

/** @param {Actor} who @param {string} from */
const readable = async (who, from) => (await who.do('picture', from))?.readable ?? 0;

/** @type {Case[]} */
export const state = [
  {
    title: 'every client is told who joins and who leaves',
    cells: ALL.map((client) => `participants@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      /** @type {Actor[]} */
      const gone = [];
      for (const who of all) {
        await who.do('leave');
        gone.push(who);
        const left = all.filter((other) => !gone.includes(other));
        await Promise.all(left.map((other) => other.remote(`${who.identity} is gone`, who.identity, (seen) => seen === null)));
      }
    },
  },
  {
    title: 'name, metadata and attributes that a client sets reach every other',
    cells: ALL.map((client) => `metadata@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      await Promise.all(all.map((who) => who.do('describe', { name: `the ${who.identity}`, metadata: `seat of ${who.identity}`, attributes: { hand: who.identity } })));
      for (const who of all) {
        for (const other of all.filter((each) => each !== who)) {
          await other.remote(`what ${who.identity} says about itself`, who.identity,
            (seen) => seen?.name === `the ${who.identity}` && seen.metadata === `seat of ${who.identity}` && seen.attributes['hand'] === who.identity);
        }
      }
    },
  },
  {
    title: 'every client hears of active speakers',
    cells: ALL.map((client) => `speakers@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      await all[0].do('publishTone', 440);
      await Promise.all(all.map((who) => until(`${who.identity} sees who speaks`, () => who.do('speaking'), (speaking) => speaking.includes('chromium'))));
      await all[0].do('setMuted', 'microphone', true);
      await Promise.all(all.map((who) => until(`${who.identity} sees that nobody speaks`, () => who.do('speaking'), (speaking) => speaking.length === 0)));
    },
  },
  {
    title: 'every client is told the quality of connections',
    cells: ALL.map((client) => `quality@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      await Promise.all(all.map((who) => who.do('publishTone', 440)));
      await Promise.all(all.map((who) => until(`${who.identity} knows its own and another's`, () => Promise.all(['chromium', 'python'].map((identity) => who.do('quality', identity))),
        (seen) => seen.every((each) => each === 'excellent'))));
    },
  },
  ...(/** @type {Client[]} */ (['chromium', 'firefox', 'python'])).map((client) => ({
    title: `what ${client} mutes is silent for all until it is unmuted, and unpublished is gone`,
    cells: [`mute@${client}`, `unpublish@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, other, native] = await stage.together(t, [client, 'chromium', 'node']);
      assert.ok(publisher && other && native);
      await publisher.do('publishTone', 440);
      await Promise.all([other.hears(publisher.identity, 440), native.hears(publisher.identity, 440)]);
      await publisher.do('setMuted', 'microphone', true);
      await Promise.all([other, native].map((who) => who.remote('muted', publisher.identity, (seen) => seen?.tracks.microphone?.isMuted === true)));
      await other.hearsNothing(publisher.identity);
      await publisher.do('setMuted', 'microphone', false);
      await Promise.all([other, native].map((who) => who.remote('not muted', publisher.identity, (seen) => seen?.tracks.microphone?.isMuted === false)));
      await Promise.all([other.hears(publisher.identity, 440), native.hears(publisher.identity, 440)]);
      await publisher.do('unpublish', 'microphone');
      await Promise.all([other, native].map((who) => who.remote('unpublished', publisher.identity, (seen) => seen !== null && seen.tracks.microphone === undefined)));
    },
  })),
  {
    title: 'what node unpublishes is gone for all',
    cells: ['unpublish@node'],
    async run(t, stage) {
      const [node, chromium] = await stage.together(t, /** @type {['node', 'chromium']} */ (['node', 'chromium']));
      await node.do('publishTone', 440);
      await chromium.hears('node', 440);
      await node.do('unpublish', 'microphone');
      await chromium.remote('unpublished', 'node', (seen) => seen !== null && seen.tracks.microphone === undefined);
    },
  },
  ...ALL.map((client) => ({
    title: `${client} subscribes and unsubscribes as it likes`,
    cells: [`subscription@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, viewer] = await stage.together(t, ['chromium', client], { autoSubscribe: false });
      assert.ok(publisher && viewer);
      await publisher.do('publishPicture', { id: PICTURE_ID });
      await viewer.remote('the track is announced', 'chromium', (seen) => seen?.tracks.camera !== undefined);
      await always('nothing comes unasked', QUIET_MS, () => readable(viewer, 'chromium'), (frames) => frames === 0);
      await viewer.do('setSubscribed', 'chromium', 'camera', true);
      await viewer.sees('chromium', PICTURE_ID);
      await viewer.do('setSubscribed', 'chromium', 'camera', false);
      await viewer.remote('unsubscribed', 'chromium', (seen) => seen?.tracks.camera?.isSubscribed === false);
      const stopped = await readable(viewer, 'chromium');
      await always('the picture stands still', QUIET_MS, () => readable(viewer, 'chromium'), (frames) => frames === 0 || frames === stopped);
      await viewer.do('setSubscribed', 'chromium', 'camera', true);
      await viewer.remote('subscribed', 'chromium', (seen) => seen?.tracks.camera?.isSubscribed === true);
      await viewer.sees('chromium', PICTURE_ID);
    },
  })),
  ...ALL.map((client) => ({
    title: `a token decides what ${client} may do`,
    cells: [`token-grants@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const room = stage.room();
      const [muzzled, blind, witness] = await Promise.all([stage.participant(t, client, room, 'muzzled'), stage.participant(t, client, room, 'blind'), stage.participant(t, 'chromium', room, 'witness')]);
      await Promise.all([
        muzzled.join({ claims: { grants: { canPublish: false, canPublishData: false } } }),
        blind.join({ claims: { grants: { canSubscribe: false } } }),
        witness.join(),
      ]);
      await muzzled.do('send', 'not allowed', { reliable: true }).catch(() => {});
      await witness.do('publishPicture', { id: PICTURE_ID });
      // Some SDKs find out by waiting.
      const [refusal] = await Promise.all([muzzled.do('refusedPublish', { id: PICTURE_ID }), muzzled.sees('witness', PICTURE_ID), blind.do('publishPicture', { id: PICTURE_ID + 1 })]);
      assert.notEqual(refusal, '', 'publishing is refused');
      await witness.sees('blind', PICTURE_ID + 1);
      assert.equal(await readable(blind, 'witness'), 0, 'subscribing is refused');
      assert.deepEqual((await witness.do('messages')).map((m) => m.text), [], 'no data of one who may not send it');
    },
  })),
  ...(/** @type {Client[]} */ (['chromium', 'firefox', 'python'])).map((client) => ({
    title: `${client} decides who may subscribe to it`,
    cells: [`subscription-permissions@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const room = stage.room();
      const [publisher, friend, other] = await Promise.all([stage.participant(t, client, room, 'publisher'), stage.participant(t, 'chromium', room, 'friend'), stage.participant(t, 'chromium', room, 'other')]);
      await Promise.all([publisher.join(), friend.join(), other.join()]);
      await publisher.do('allowSubscribers', ['friend']);
      await publisher.do('publishPicture', { id: PICTURE_ID });
      await friend.sees('publisher', PICTURE_ID);
      await other.remote('the track is announced', 'publisher', (seen) => seen?.tracks.camera !== undefined);
      assert.equal(await readable(other, 'publisher'), 0);
      assert.equal(await other.do('isAllowed', 'publisher', 'camera'), false, 'the SDK knows why');
      await publisher.do('allowSubscribers', null);
      await other.sees('publisher', PICTURE_ID);
    },
  })),
];
