// Every codec from every client that sends it to every client that shows it, by content.

import assert from 'node:assert/strict';
import { until } from '../../e2e/lib/wait.js';

/** @typedef {import('../stage.js').Client} Client */
/** @typedef {import('./index.js').Case} Case */
/** @typedef {'vp8' | 'vp9' | 'h264' | 'av1'} VideoCodec */

const PICTURE_ID = 40;
const TONE_HZ = 440;

/** What each client publishes, and who is there to see it. @type {{ codec: VideoCodec, from: Client, to: Client[] }[]} */
const VIDEO = [
  { codec: 'vp8', from: 'chromium', to: ['chromium', 'firefox', 'python', 'node'] },
  { codec: 'vp8', from: 'firefox', to: ['chromium', 'python'] },
  { codec: 'vp8', from: 'python', to: ['chromium', 'firefox'] },
  { codec: 'vp8', from: 'node', to: ['chromium'] },
  { codec: 'h264', from: 'chromium', to: ['chromium', 'python', 'node'] },
  { codec: 'h264', from: 'python', to: ['chromium'] },
  { codec: 'h264', from: 'node', to: ['chromium'] },
  { codec: 'vp9', from: 'chromium', to: ['chromium', 'firefox', 'python', 'node'] },
  { codec: 'vp9', from: 'python', to: ['chromium', 'firefox'] },
  { codec: 'vp9', from: 'node', to: ['chromium'] },
  { codec: 'av1', from: 'chromium', to: ['chromium', 'firefox', 'python', 'node'] },
  { codec: 'av1', from: 'python', to: ['chromium', 'firefox'] },
  { codec: 'av1', from: 'node', to: ['chromium'] },
];

/** @type {{ from: Client, to: Client[] }[]} */
const AUDIO = [
  { from: 'chromium', to: ['chromium', 'firefox', 'python', 'node'] },
  { from: 'firefox', to: ['chromium', 'python'] },
  { from: 'python', to: ['chromium', 'firefox'] },
  { from: 'node', to: ['chromium'] },
];

/** @type {Client[]} */
const G711_TO = ['chromium', 'firefox', 'python', 'node'];

/** @param {Client[]} to */
const list = (to) => to.join(', ').replace(/, (\w+)$/, ' and $1');

/** @type {Case[]} */
export const codecs = [
  ...VIDEO.map(({ codec, from, to }) => ({
    title: `${codec} from ${from} reaches ${list(to)}`,
    cells: to.map((client) => `${codec}@${from}>${client}`),
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, ...others] = await stage.together(t, [from, ...to]);
      assert.ok(publisher);
      await publisher.do('publishPicture', { id: PICTURE_ID, options: { videoCodec: codec, backupCodec: false } });
      await Promise.all(others.map(async (who) => {
        await who.sees(publisher.identity, PICTURE_ID);
        const seen = await who.do('remote', publisher.identity);
        assert.equal(seen?.tracks.camera?.mimeType.toLowerCase(), `video/${codec}`, `${who.identity} is told the codec`);
        if (who.client !== 'node') {
          const received = await who.do('received', publisher.identity, 'camera');
          assert.equal(received?.mimeType.toLowerCase(), `video/${codec}`, `${who.identity} decodes it`);
        }
      }));
    },
  })),
  ...AUDIO.map(({ from, to }) => ({
    title: `opus from ${from} reaches ${list(to)}`,
    cells: to.map((client) => `opus@${from}>${client}`),
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, ...others] = await stage.together(t, [from, ...to]);
      assert.ok(publisher);
      await publisher.do('publishTone', TONE_HZ, { red: false });
      await Promise.all(others.map((who) => who.hears(publisher.identity, TONE_HZ)));
      await until('the others are told the codec', () => Promise.all(others.map((who) => who.do('remote', publisher.identity))),
        (seen) => seen.every((each) => each?.tracks.microphone?.mimeType.toLowerCase() === 'audio/opus'));
    },
  })),
  ...AUDIO.filter(({ from }) => from !== 'firefox').map(({ from, to }) => ({
    title: `opus announced as redundant from ${from} reaches ${list(to)}`,
    cells: to.map((client) => `red@${from}>${client}`),
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, ...others] = await stage.together(t, [from, ...to]);
      assert.ok(publisher);
      await publisher.do('publishTone', TONE_HZ, { red: true, dtx: false });
      await Promise.all(others.map((who) => who.hears(publisher.identity, TONE_HZ)));
      await Promise.all(others.map((who) => who.remote('the codec', publisher.identity, (seen) => seen?.tracks.microphone?.mimeType.toLowerCase() === 'audio/red')));
    },
  })),
  ...(/** @type {const} */ (['PCMU', 'PCMA'])).map((codec) => ({
    title: `${codec} from chromium reaches chromium, firefox, python and node`,
    cells: G711_TO.map((client) => `${codec.toLowerCase()}@chromium>${client}`),
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, ...others] = await stage.together(t, ['chromium', ...G711_TO]);
      assert.ok(publisher);
      await publisher.do('publishToneIn', codec, TONE_HZ);
      await Promise.all(others.map((who) => who.hears(publisher.identity, TONE_HZ)));
      for (const who of others.filter((each) => each.client !== 'node')) {
        const received = await who.do('received', publisher.identity, 'microphone');
        assert.equal(received?.mimeType.toUpperCase(), `AUDIO/${codec}`, `${who.identity} decodes it`);
      }
    },
  })),
];
