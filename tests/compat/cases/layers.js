// Which size, rate and layer of a picture a subscriber gets, and what that costs.

import assert from 'node:assert/strict';
import { STEP_BACK_LIMIT } from '../../e2e/lib/participant.js';
import { always, until } from '../../e2e/lib/wait.js';

/** @typedef {import('../stage.js').Client} Client */
/** @typedef {import('../stage.js').Actor} Actor */
/** @typedef {import('./index.js').Case} Case */
/** @typedef {'LOW' | 'MEDIUM' | 'HIGH'} Quality */

const PICTURE_ID = 90;
/** The encoder starts its upper layers one after the other as its bandwidth estimate grows. */
const LAYERS_WITHIN_MS = 30_000;
/** Long enough for a frame to show up that should not. */
const QUIET_MS = 1000;
/** Of the packets of a stream in three layers, where every frame is a keyframe's or a layer's own. */
const MOST = 0.8;
const FRAMES = 10;

/** @param {Actor} who @param {string} from */
const widthOf = async (who, from) => Number((await who.do('picture', from))?.size.split('x')[0] ?? 0);

/**
 * Asks for a layer and waits until the picture has its size.
 * @param {Actor} who @param {string} from @param {Quality} quality @param {(width: number) => boolean} isRight
 */
async function choose(who, from, quality, isRight) {
  await who.do('setQualityOf', from, 'camera', quality);
  await until(`${who.identity} sees ${quality}`, () => widthOf(who, from), isRight, { withinMs: LAYERS_WITHIN_MS });
  await who.do('resetPicture', from);
  await until(`${who.identity} sees it move`, () => who.do('picture', from), (seen) => (seen?.readable ?? 0) >= FRAMES);
  const seen = await who.do('picture', from);
  assert.deepEqual([seen?.ids, seen?.unreadable], [[PICTURE_ID], 0]);
}

/**
 * What each viewer receives of one picture over the same two seconds: bits per second, and the share of the packets sent.
 * @param {Actor} publisher @param {Actor[]} viewers
 */
async function costs(publisher, viewers) {
  const from = publisher.identity;
  const received = () => Promise.all(viewers.map((who) => who.do('received', from, 'camera')));
  const sent = async () => (await publisher.do('sent', 'camera')).reduce((sum, layer) => sum + layer.packetsSent, 0);
  const frames = () => Promise.all(viewers.map(async (who) => (await who.do('picture', from))?.readable ?? 0));
  const began = performance.now();
  const [before, sentBefore, shown] = await Promise.all([received(), sent(), frames()]);
  await until('all see two seconds', frames, (now) => now.every((count, at) => count >= (shown[at] ?? 0) + 30));
  const [after, sentAfter] = await Promise.all([received(), sent()]);
  const tookMs = performance.now() - began;
  return after.map((now, at) => ({
    kbps: Math.round((((now?.bytesReceived ?? 0) - (before[at]?.bytesReceived ?? 0)) * 8) / tookMs),
    share: ((now?.packetsReceived ?? 0) - (before[at]?.packetsReceived ?? 0)) / (sentAfter - sentBefore),
  }));
}

/** @type {Case[]} */
export const layers = [
  ...(/** @type {[Client, 'vp8' | 'h264'][]} */ ([['chromium', 'vp8'], ['chromium', 'h264'], ['firefox', 'vp8'], ['python', 'vp8'], ['node', 'vp8']])).map(([client, codec]) => ({
    title: `a ${codec} simulcast track of ${client} reaches each subscriber in the size that it asks for`,
    cells: [`simulcast-send@${client}`, 'simulcast-receive@chromium', ...(client === 'chromium' && codec === 'vp8' ? ['simulcast-receive@python', 'simulcast-receive@firefox'] : [])],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const viewers = /** @type {Client[]} */ (client === 'chromium' && codec === 'vp8' ? ['chromium', 'firefox', 'python'] : ['chromium']);
      const [publisher, ...others] = await stage.together(t, [client, ...viewers]);
      assert.ok(publisher);
      await publisher.do('publishPicture', { id: PICTURE_ID, width: 960, height: 540, options: { simulcast: true, videoCodec: codec } });
      for (const viewer of others) {
        await viewer.remote('the track is there', publisher.identity, (seen) => seen?.tracks.camera?.isSubscribed === true);
        await choose(viewer, publisher.identity, 'LOW', (width) => width > 0 && width <= 480);
        await choose(viewer, publisher.identity, 'HIGH', (width) => width === 960);
      }
    },
  })),
  ...(/** @type {Client[]} */ (['chromium', 'firefox'])).map((client) => ({
    title: `${client} asks for a picture by size, pauses it, and gets it back`,
    cells: [`dimensions@${client}`, `pause@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, viewer] = await stage.together(t, ['chromium', client]);
      assert.ok(publisher && viewer);
      await publisher.do('publishPicture', { id: PICTURE_ID, width: 960, height: 540, options: { simulcast: true } });
      await viewer.sees(publisher.identity, PICTURE_ID, { stepBackLimit: STEP_BACK_LIMIT });
      await viewer.do('setSize', publisher.identity, 160, 90);
      await until('the small one comes', () => widthOf(viewer, publisher.identity), (width) => width > 0 && width <= 480, { withinMs: LAYERS_WITHIN_MS });
      await viewer.do('setSize', publisher.identity, 960, 540);
      await until('the large one comes', () => widthOf(viewer, publisher.identity), (width) => width === 960, { withinMs: LAYERS_WITHIN_MS });
      await viewer.do('setEnabled', publisher.identity, 'camera', false);
      const shown = async () => (await viewer.do('picture', publisher.identity))?.readable ?? 0;
      let last = -1;
      await until('the picture stands still', shown, (now) => now === last || ((last = now), false), { pollMs: 300 });
      await always('it stays so', QUIET_MS, shown, (now) => now === last);
      await viewer.do('setEnabled', publisher.identity, 'camera', true);
      await until('it moves again', shown, (now) => now > last + FRAMES);
    },
  })),
  ...(/** @type {const} */ (['vp9', 'av1'])).map((codec) => ({
    title: `three spatial layers of one ${codec} stream are chosen per subscriber, who gets its part of the packets`,
    cells: [`svc-${codec}@chromium`, `svc-${codec}@firefox`, `svc-${codec}@python`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [publisher, low, medium, high, firefox, python] = await stage.together(t, ['chromium', 'chromium', 'chromium', 'chromium', 'firefox', 'python']);
      const from = publisher.identity;
      await publisher.do('publishPicture', { id: PICTURE_ID, width: 1280, height: 720, options: { videoCodec: codec, scalabilityMode: 'L3T3_KEY', backupCodec: false } });
      const all = [low, medium, high, firefox, python];
      await Promise.all(all.map((who) => who.remote('the track is there', from, (seen) => seen?.tracks.camera?.isSubscribed === true)));
      const received = await until('it is decoded', () => high.do('received', from, 'camera'), (each) => (each?.framesDecoded ?? 0) > 0);
      assert.equal(received?.mimeType.toLowerCase(), `video/${codec}`);
      assert.equal((await publisher.do('sent', 'camera')).length, 1, 'one stream');
      await Promise.all([
        choose(low, from, 'LOW', (width) => width === 320),
        choose(medium, from, 'MEDIUM', (width) => width === 640),
        choose(high, from, 'HIGH', (width) => width === 1280),
        ...[firefox, python].map((who) => choose(who, from, 'LOW', (width) => width === 320)),
      ]);
      const cost = await costs(publisher, [low, medium, high]);
      t.diagnostic(`${codec}: ${cost.map(({ kbps, share }) => `${kbps} kbit/s (${Math.round(share * 100)} % of the packets)`).join(', ')}`);
      assert.ok(cost.every(({ share }) => share > 0 && share < MOST), 'everybody gets a part of the stream only');
      // AV1 encodes this picture in so few bits that its layers cost about the same.
      if (codec === 'vp9') assert.deepEqual(cost.map(({ kbps }) => kbps), cost.map(({ kbps }) => kbps).sort((x, y) => x - y));
      await Promise.all([firefox, python].map((who) => choose(who, from, 'HIGH', (width) => width === 1280)));
    },
  })),
];
