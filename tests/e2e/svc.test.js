// Layers within one stream (SVC): each subscriber gets the size and frame rate it asks for, out of one encoding.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { lab } from './lib/lab.js';
import { until } from './lib/wait.js';

const { room, participant } = lab('svc');

/** @typedef {import('./lib/participant.js').Participant} Participant */
/** @typedef {'LOW' | 'MEDIUM' | 'HIGH'} Quality */

const SIZES = /** @type {const} */ ({ LOW: '240x136', MEDIUM: '480x272', HIGH: '960x544' });
const FPS = 20;
/** The encoder starts its upper layers as its bandwidth estimate grows, and AV1 is slow in software. */
const LAYERS_WITHIN_MS = 40_000;

/**
 * Alice publishes one encoding with these layers.
 * @param {import('node:test').TestContext} t @param {string} name @param {'vp9' | 'av1'} codec @param {'L1T3' | 'L3T3' | 'L3T3_KEY'} scalabilityMode
 */
async function publisher(t, name, codec, scalabilityMode) {
  const alice = await participant(t, name, 'alice');
  await alice.join();
  const videoEncoding = { maxBitrate: 1_200_000, maxFramerate: FPS };
  const options = { simulcast: true, videoCodec: codec, scalabilityMode, backupCodec: false, videoEncoding };
  await alice.lab('publishPicture', { id: 77, width: 960, height: 544, fps: FPS, options });
  return alice;
}

/** What flows to a subscriber within two seconds. @param {Participant} who */
async function flow(who) {
  const before = await who.lab('received', 'alice', 'camera');
  const start = performance.now();
  await pause(2_000);
  const after = await who.lab('received', 'alice', 'camera');
  const seconds = (performance.now() - start) / 1_000;
  assert.ok(before && after);
  return {
    size: `${after.frameWidth}x${after.frameHeight}`,
    kbps: ((after.bytesReceived - before.bytesReceived) * 8) / 1_000 / seconds,
    fps: (after.framesDecoded - before.framesDecoded) / seconds,
    mime: after.mimeType,
    freezes: after.freezeCount - before.freezeCount,
    lost: after.packetsLost,
  };
}

/** @param {Participant} who @param {string} size */
async function receives(who, size) {
  await until(`${who.identity} receives ${size}`, () => who.lab('received', 'alice', 'camera'),
    (stats) => stats !== null && `${stats.frameWidth}x${stats.frameHeight}` === size, { withinMs: LAYERS_WITHIN_MS });
}

for (const [codec, mode] of /** @type {const} */ ([['vp9', 'L3T3_KEY'], ['av1', 'L3T3_KEY'], ['vp9', 'L3T3']])) {
  test(`subscribers of a ${codec} ${mode} track that ask for low, medium and high get three sizes with rising bitrates`, async (t) => {
    const name = room();
    await publisher(t, name, codec, mode);
    const bob = await participant(t, name, 'bob');
    await bob.join();
    await bob.sees('alice', 77, { withinMs: LAYERS_WITHIN_MS });
    await receives(bob, SIZES.HIGH);
    /** @type {Record<string, Awaited<ReturnType<typeof flow>>>} */
    const flows = {};
    for (const quality of /** @type {const} */ (['LOW', 'MEDIUM', 'HIGH', 'LOW', 'HIGH'])) {
      await bob.lab('setQuality', 'alice', quality);
      await receives(bob, SIZES[quality]);
      const seen = await flow(bob);
      t.diagnostic(`${codec} ${mode} ${quality}: ${seen.size}, ${Math.round(seen.kbps)} kbit/s, ${seen.fps.toFixed(1)} fps, lost ${seen.lost}`);
      assert.equal(seen.size, SIZES[quality]);
      assert.equal(seen.mime, `video/${codec.toUpperCase()}`);
      assert.ok(seen.fps > 2, 'the picture moves');
      flows[quality] = seen;
    }
    const [low, medium, high] = [flows.LOW?.kbps ?? 0, flows.MEDIUM?.kbps ?? 0, flows.HIGH?.kbps ?? 0];
    assert.ok(low * 1.2 < medium && medium * 1.2 < high, `bitrates rise: ${low}, ${medium}, ${high} kbit/s`);
    const stats = await bob.lab('received', 'alice', 'camera');
    assert.equal(stats?.packetsLost, 0, 'what is left out leaves no gap');
  });
}

test('a subscriber of an av1 L1T3 track gets the frame rate it asks for', async (t) => {
  const name = room();
  await publisher(t, name, 'av1', 'L1T3');
  const bob = await participant(t, name, 'bob');
  await bob.join();
  await bob.sees('alice', 77, { withinMs: LAYERS_WITHIN_MS });
  /** Asks for a frame rate and waits until two seconds show one in this range: a busy machine encodes fewer for a while. */
  const rate = async (/** @type {number} */ fps, /** @type {number} */ least, /** @type {number} */ most) => {
    await bob.lab('setFps', 'alice', fps);
    const seen = await until(`bob gets ${least} to ${most} fps`, () => flow(bob), (f) => f !== null && f.fps >= least && f.fps <= most, { withinMs: 30_000 });
    t.diagnostic(`wish ${fps} fps: ${seen?.fps.toFixed(1)} fps, ${Math.round(seen?.kbps ?? 0)} kbit/s`);
    assert.equal(seen?.lost, 0, 'what is left out leaves no gap');
  };
  await rate(60, FPS * 0.75, FPS * 1.2);
  await rate(FPS / 4, FPS * 0.15, FPS * 0.35);
  await rate(FPS / 2, FPS * 0.4, FPS * 0.65);
  await rate(60, FPS * 0.75, FPS * 1.2);
});

test('a subscriber that comes later gets its layer without disturbing the others', async (t) => {
  const name = room();
  await publisher(t, name, 'vp9', 'L3T3_KEY');
  const bob = await participant(t, name, 'bob');
  await bob.join();
  await receives(bob, SIZES.HIGH);
  const carol = await participant(t, name, 'carol');
  await carol.join();
  await carol.sees('alice', 77);
  await carol.lab('setQuality', 'alice', 'LOW');
  // The encoder may rest its top layer while the machine is busy.
  await Promise.all([receives(bob, SIZES.HIGH), receives(carol, SIZES.LOW)]);
  const [atBob, atCarol] = await Promise.all([flow(bob), flow(carol)]);
  assert.equal(atCarol.size, SIZES.LOW);
  assert.notEqual(atBob.size, SIZES.LOW, 'nobody else gets the small one');
  assert.ok(atCarol.kbps * 1.5 < atBob.kbps, `${atCarol.kbps} and ${atBob.kbps} kbit/s`);
});
