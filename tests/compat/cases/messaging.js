// Data packets, RPC, streams, data tracks and transcription between all clients.

import assert from 'node:assert/strict';
import { until } from '../../e2e/lib/wait.js';

/** @typedef {import('../stage.js').Client} Client */
/** @typedef {import('../stage.js').Actor} Actor */
/** @typedef {import('./index.js').Case} Case */

/** @type {['chromium', 'firefox', 'python', 'node']} */
const ALL = ['chromium', 'firefox', 'python', 'node'];
/** @type {['chromium', 'firefox', 'python']} */
const WITH_DATA_TRACKS = ['chromium', 'firefox', 'python'];
/** Over the size of one packet, so that it takes chunks. */
const LONG_TEXT = 'a word in a long text, '.repeat(3000);
const MEGABYTE = 1_000_000;
const UNSUPPORTED_METHOD = 1400;
const APPLICATION_ERROR = 1500;
/** Data frames are lossy while channels open, so they are repeated at this pace. */
const REPEAT_MS = 200;

/** Every ordered pair of two of them. @param {readonly Actor[]} all */
const pairs = (all) => all.flatMap((from) => all.filter((to) => to !== from).map((to) => ({ from, to })));

/** Sends until it has arrived, as the channels of a new call may not be open yet. @param {Actor} from @param {Actor[]} to @param {string} text @param {{ reliable: boolean, topic?: string, destinationIdentities?: string[] }} options */
async function sendUntilThere(from, to, text, options) {
  await until(`${text} of ${from.identity} is everywhere`, async () => {
    await from.do('send', text, options);
    const messages = await Promise.all(to.map((who) => who.do('messages')));
    return messages.map((list) => list.some((m) => m.text === text && m.from === from.identity && m.topic === (options.topic ?? '')));
  }, (seen) => seen.every(Boolean), { pollMs: REPEAT_MS });
}

/** @type {Case[]} */
export const messaging = [
  {
    title: 'reliable and lossy packets with topics go from every client to every other',
    cells: ALL.flatMap((client) => [`data-reliable@${client}`, `data-lossy@${client}`]),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      for (const reliable of [true, false]) {
        await Promise.all(all.map((from) => sendUntilThere(from, all.filter((who) => who !== from), `${reliable} from ${from.identity}`, { reliable, topic: 'greeting' })));
      }
    },
  },
  {
    title: 'a packet for one participant reaches nobody else, from every client',
    cells: ALL.map((client) => `data-destination@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      for (const from of all) {
        const [to, ...others] = all.filter((who) => who !== from);
        assert.ok(to);
        await sendUntilThere(from, [to, ...others], 'open?', { reliable: true });
        await from.do('send', `secret of ${from.identity}`, { reliable: true, destinationIdentities: [to.identity] });
        await from.do('send', `end of ${from.identity}`, { reliable: true });
        // The channel is ordered: what came before the last packet is there when that is.
        const messages = await until('the last packet is everywhere', () => Promise.all([to, ...others].map((who) => who.do('messages'))),
          (lists) => lists.every((list) => list.some((m) => m.text === `end of ${from.identity}`)));
        assert.deepEqual(messages.map((list) => list.some((m) => m.text === `secret of ${from.identity}`)), [true, false, false]);
      }
    },
  },
  {
    title: 'every client calls a method of every other and gets its answer or its error',
    cells: ALL.flatMap((client) => [`rpc-call@${client}`, `rpc-serve@${client}`]),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      await Promise.all(all.map((who) => who.do('serveRpc', 'greet')));
      for (const { from, to } of pairs(all)) {
        assert.deepEqual(await from.do('callRpc', to.identity, 'greet', 'good day'), { answer: `${to.identity} heard ${from.identity}: good day` });
        assert.deepEqual(await from.do('callRpc', to.identity, 'nothing', ''), { code: UNSUPPORTED_METHOD }, `${from.identity} to ${to.identity}`);
        assert.deepEqual(await from.do('callRpc', to.identity, 'greet', 'fail'), { code: APPLICATION_ERROR }, `${from.identity} to ${to.identity}`);
      }
    },
  },
  {
    title: 'short and long texts with attributes go as streams from every client to every other',
    cells: ALL.map((client) => `text-stream@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      await Promise.all(all.map((who) => who.do('takeStreams', 'letters')));
      for (const text of ['äöü 👋', LONG_TEXT]) await Promise.all(all.map((from) => from.do('sendText', 'letters', text, { mood: 'fine' })));
      for (const { from, to } of pairs(all)) {
        const letters = await until(`${to.identity} has both texts of ${from.identity}`, async () => (await to.do('arrived')).filter((a) => a.from === from.identity), (seen) => seen.length === 2);
        assert.deepEqual(letters.map((a) => a.text).sort((a = '', b = '') => a.length - b.length), ['äöü 👋', LONG_TEXT]);
        assert.deepEqual(letters.map((a) => a.attributes['mood']), ['fine', 'fine']);
      }
    },
  },
  {
    title: 'a megabyte goes as byte stream from every client to every other and arrives intact',
    cells: ALL.map((client) => `byte-stream@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, ALL);
      await Promise.all(all.map((who) => who.do('takeStreams', 'files')));
      for (const [at, from] of all.entries()) await from.do('sendBytes', 'files', `file-${at}`, MEGABYTE, at);
      for (const [at, from] of all.entries()) {
        for (const to of all.filter((who) => who !== from)) {
          const file = await until(`${to.identity} has the file of ${from.identity}`, async () => (await to.do('arrived')).find((a) => a.from === from.identity), Boolean, { withinMs: 30_000 });
          assert.deepEqual([file?.name, file?.size, file?.seed], [`file-${at}`, MEGABYTE, at]);
        }
      }
    },
  },
  {
    title: 'frames of a data track go from every client that has them to every other',
    cells: WITH_DATA_TRACKS.map((client) => `data-track@${client}`),
    async run(t, stage) {
      const all = await stage.together(t, WITH_DATA_TRACKS);
      await Promise.all(all.map((who) => who.do('publishDataTrack', `of ${who.identity}`)));
      for (const [at, from] of all.entries()) {
        // Over one packet's size, so that a frame takes several.
        for (const size of [100, 40_000]) {
          const others = all.filter((who) => who !== from);
          await until(`a frame of ${size} bytes of ${from.identity} is everywhere`, async () => {
            await from.do('pushDataFrame', `of ${from.identity}`, size, at);
            const frames = await Promise.all(others.map((who) => who.do('dataFrames')));
            return frames.map((list) => list.filter((f) => f.from === from.identity && f.topic === `of ${from.identity}` && f.size === size));
          }, (seen) => seen.every((list) => list.length > 0 && list.every((f) => f.seed === at)), { pollMs: REPEAT_MS });
        }
      }
    },
  },
  {
    title: 'transcriptions of agents on the native SDKs reach the clients that show them, and nobody else transcribes',
    cells: ['transcription-send@python', 'transcription-send@node', 'transcription-receive@chromium', 'transcription-receive@firefox', 'transcription-receive@python'],
    async run(t, stage) {
      const room = stage.room();
      const [speaker, firefox, viewer, python, node, guest] = await Promise.all([
        stage.participant(t, 'chromium', room, 'speaker'), stage.participant(t, 'firefox', room), stage.participant(t, 'python', room, 'viewer'),
        stage.participant(t, 'python', room), stage.participant(t, 'node', room), stage.participant(t, 'node', room, 'guest'),
      ]);
      const asAgent = { claims: { kind: 'agent', grants: { agent: true } } };
      await Promise.all([speaker.join(), firefox.join(), viewer.join(), python.join(asAgent), node.join(asAgent), guest.join()]);
      const trackSid = await speaker.do('publishTone', 440);
      const shows = [speaker, firefox, viewer];
      await Promise.all([firefox, viewer, python, node, guest].map((who) => who.hears('speaker', 440)));
      for (const from of [guest, node, python]) await /** @type {any} */ (from).lab('publishTranscription', 'speaker', trackSid, `said, so ${from.identity}`);
      await until('both are shown', () => Promise.all(shows.map((who) => who.do('transcriptions'))),
        (lists) => lists.every((list) => [node, python].every((from) => list.some((s) => s.text === `said, so ${from.identity}` && s.from === 'speaker' && s.isFinal))));
      const all = (await Promise.all(shows.map((who) => who.do('transcriptions')))).flat();
      assert.ok(!all.some((s) => s.text.includes('guest')), 'who is no agent says nothing for others');
    },
  },
];
