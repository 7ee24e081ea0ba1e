// Simulcast: each subscriber gets the layer it asks for, and a switch does not disturb the picture.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab } from './lib/lab.js';
import { STEP_BACK_LIMIT } from './lib/participant.js';
import { until } from './lib/wait.js';

const { room, participant } = lab('simulcast');

/** A person notices more than this; a keyframe's round trip on loopback is far below it. */
const FREEZE_LIMIT_MS = 500;
const SIZES = /** @type {const} */ ({ LOW: '320x180', MEDIUM: '640x360', HIGH: '1280x720' });
/** The encoder starts its upper layers one after the other as its bandwidth estimate grows. */
const LAYERS_WITHIN_MS = 30_000;

/**
 * Alice publishes a 720p picture in three layers, all of them running.
 * @param {import('node:test').TestContext} t @param {string} name @param {'vp8' | 'h264'} codec @param {number} id
 */
async function publisher(t, name, codec, id) {
  const alice = await participant(t, name, 'alice');
  await alice.join();
  await alice.lab('publishPicture', { id, width: 1280, height: 720, options: { simulcast: true, videoCodec: codec } });
  return alice;
}

/** @param {import('./lib/participant.js').Participant} alice */
async function allLayersRun(alice) {
  await until('three layers are encoded', () => alice.lab('sent', 'camera'),
    (layers) => layers.length === 3 && layers.every((layer) => layer.framesEncoded > 5), { withinMs: LAYERS_WITHIN_MS });
}

/**
 * Asks for a layer, by the size of the picture or by the layer's name.
 * @param {import('./lib/participant.js').Participant} who @param {keyof typeof SIZES} quality @param {'size' | 'quality'} by
 */
async function switchTo(who, quality, by) {
  await who.lab('resetPicture', 'alice');
  const [width = 0, height = 0] = SIZES[quality].split('x').map(Number);
  await (by === 'size' ? who.lab('setSize', 'alice', width, height) : who.lab('setQuality', 'alice', quality));
  await until(`${who.identity} receives ${SIZES[quality]}`, () => who.lab('picture', 'alice'), (p) => p?.size === SIZES[quality], { withinMs: LAYERS_WITHIN_MS });
  return who.sees('alice', 61, { frames: 15, stepBackLimit: STEP_BACK_LIMIT });
}

for (const [codec, by] of /** @type {const} */ ([['vp8', 'size'], ['h264', 'quality']])) {
  test(`a subscriber that asks by ${by} for small, medium and full of a 720p ${codec} track gets the three layers without a freeze`, async (t) => {
    const name = room();
    const alice = await publisher(t, name, codec, 61);
    const bob = await participant(t, name, 'bob');
    await bob.join();
    await bob.sees('alice', 61);
    await allLayersRun(alice);
    await switchTo(bob, 'HIGH', by);
    const before = await bob.lab('received', 'alice', 'camera');
    for (const quality of /** @type {const} */ (['LOW', 'MEDIUM', 'HIGH', 'LOW', 'HIGH'])) {
      const seen = await switchTo(bob, quality, by);
      const stats = await bob.lab('received', 'alice', 'camera');
      t.diagnostic(`${codec} ${quality}: ${stats?.frameWidth}x${stats?.frameHeight}, longest gap ${seen.longestGapMs} ms`);
      assert.equal(`${stats?.frameWidth}x${stats?.frameHeight}`, SIZES[quality]);
      assert.equal(seen.unreadable, 0, 'no damaged frame');
      assert.ok(seen.longestGapMs < FREEZE_LIMIT_MS, `the switch to ${quality} froze for ${seen.longestGapMs} ms`);
    }
    const after = await bob.lab('received', 'alice', 'camera');
    assert.ok(before && after);
    t.diagnostic(`${codec}: dropped ${after.framesDropped - before.framesDropped}, lost ${after.packetsLost - before.packetsLost}, nacks ${after.nackCount}, plis ${after.pliCount}, freezes ${after.freezeCount - before.freezeCount}`);
    assert.equal(after.framesDropped, before.framesDropped, 'no frame is dropped');
    assert.equal(after.packetsLost, before.packetsLost, 'no packet is missing');
  });
}

test('two subscribers get different layers of one track at the same time', async (t) => {
  const name = room();
  const alice = await publisher(t, name, 'vp8', 61);
  const [bob, carol] = [await participant(t, name, 'bob'), await participant(t, name, 'carol')];
  await Promise.all([bob.join(), carol.join()]);
  await Promise.all([bob.sees('alice', 61), carol.sees('alice', 61)]);
  await allLayersRun(alice);
  await Promise.all([switchTo(bob, 'LOW', 'size'), switchTo(carol, 'MEDIUM', 'size')]);
  assert.equal((await bob.lab('picture', 'alice'))?.size, SIZES.LOW);
  assert.equal((await carol.lab('picture', 'alice'))?.size, SIZES.MEDIUM);
});
