// Codecs as real clients negotiate them: redundant audio, backups of video codecs, layers that nobody watches.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab } from './lib/lab.js';
import { until } from './lib/wait.js';

const { room, participant } = lab('codecs');

/** @param {import('./lib/participant.js').Participant} who @param {string} mime */
async function packetsOf(who, mime) {
  return (await who.lab('sendingCodecs')).filter((sent) => sent.mimeType === mime).reduce((sum, sent) => sum + sent.packetsSent, 0);
}

test('a microphone sends redundancy, which goes to those who take it and comes out plain for those who do not', async (t) => {
  const name = room();
  const [alice, bob, carol] = [await participant(t, name, 'alice'), await participant(t, name, 'bob'), await participant(t, name, 'carol')];
  await carol.lab('refuseCodecs', ['red']);
  await Promise.all([alice.join(), bob.join(), carol.join()]);
  await alice.lab('publishTone', 440, { red: true, dtx: false, forceStereo: false });
  await Promise.all([bob.hears('alice', 440), carol.hears('alice', 440)]);
  const remote = await bob.remote('the track is named', 'alice', (r) => Boolean(r?.tracks.microphone));
  assert.equal(remote?.tracks.microphone?.mimeType, 'audio/red');
  const [sent] = await alice.lab('sent', 'microphone');
  const before = await Promise.all([bob, carol].map((who) => who.lab('received', 'alice', 'microphone')));
  await until('sound goes on', () => bob.lab('received', 'alice', 'microphone'), (now) => (now?.packetsReceived ?? 0) > (before[0]?.packetsReceived ?? 0) + 150);
  const after = await Promise.all([bob, carol].map((who) => who.lab('received', 'alice', 'microphone')));
  const [later] = await alice.lab('sent', 'microphone');
  assert.ok(sent && later);
  t.diagnostic(`sent: ${Math.round((later.bytesSent - sent.bytesSent) / (later.packetsSent - sent.packetsSent))} bytes per packet`);
  const perPacket = after.map((now, index) => {
    const then = before[index];
    assert.ok(now && then);
    t.diagnostic(`${index === 0 ? 'with' : 'without'} redundancy: ${now.packetsReceived - then.packetsReceived} packets, ${now.packetsLost - then.packetsLost} lost, ${now.concealedSamples - then.concealedSamples} samples concealed`);
    assert.equal(now.packetsLost, then.packetsLost, 'no packet is missing');
    return (now.bytesReceived - then.bytesReceived) / (now.packetsReceived - then.packetsReceived);
  });
  t.diagnostic(`bytes per packet: ${perPacket.map(Math.round).join(' with redundancy, ')} without`);
  assert.ok((perPacket[0] ?? 0) > (perPacket[1] ?? 0) * 1.5, 'copies of earlier frames are on the way to bob only');
  // They are decoded as what they are: the tone is still pure.
  await Promise.all([bob.hears('alice', 440), carol.hears('alice', 440)]);
});

test('a microphone that disables redundancy sends plain Opus', async (t) => {
  const name = room();
  const [alice, bob] = [await participant(t, name, 'alice'), await participant(t, name, 'bob')];
  await Promise.all([alice.join(), bob.join()]);
  await alice.lab('publishTone', 440, { red: false });
  await bob.hears('alice', 440);
  const remote = await bob.remote('the track is named', 'alice', (r) => Boolean(r?.tracks.microphone));
  assert.equal(remote?.tracks.microphone?.mimeType, 'audio/opus');
});

/** livekit-client: PREFER_REGRESSION 0, SIMULCAST 1, REGRESSION 2. */
const POLICIES = /** @type {const} */ ([['everybody moves to the backup', 0, 'h264'], ['both codecs are sent', 1, 'h264'], ['everybody moves to the backup', 0, 'vp9']]);

for (const [what, policy, preferred] of POLICIES) {
  test(`when a subscriber lacks ${preferred}, the backup is published and ${what}`, async (t) => {
    const name = room();
    const [alice, bob, carol] = [await participant(t, name, 'alice'), await participant(t, name, 'bob'), await participant(t, name, 'carol')];
    await carol.lab('refuseCodecs', [preferred]);
    await Promise.all([alice.join({ options: { dynacast: true } }), bob.join()]);
    await alice.lab('publishPicture', { id: 51, width: 640, height: 360, options: { videoCodec: preferred, backupCodec: { codec: 'vp8', encoding: { maxBitrate: 600_000 } }, backupCodecPolicy: policy } });
    await bob.sees('alice', 51);
    assert.equal((await bob.lab('received', 'alice', 'camera'))?.mimeType.toLowerCase(), `video/${preferred}`);
    assert.equal(await packetsOf(alice, 'video/vp8'), 0);

    await carol.join();
    await carol.sees('alice', 51, { withinMs: 30_000 });
    assert.equal((await carol.lab('received', 'alice', 'camera'))?.mimeType.toLowerCase(), 'video/vp8');
    const expected = policy === 0 ? 'video/vp8' : `video/${preferred}`;
    await until(`bob receives ${expected}`, () => bob.lab('received', 'alice', 'camera'), (stats) => stats?.mimeType.toLowerCase() === expected);
    await bob.lab('resetPicture', 'alice');
    const seen = await bob.sees('alice', 51, { frames: 30 });
    t.diagnostic(`longest gap of bob: ${seen.longestGapMs} ms`);
    if (policy === 0) {
      await until('the preferred codec is not sent any more', () => alice.lab('sendingCodecs'), (sent) => sent.filter((one) => one.mimeType === `video/${preferred}`).every((one) => !one.isActive));
    }
    assert.deepEqual([alice.faults, bob.faults, carol.faults], [[], [], []]);
  });
}

test('layers that nobody watches are not sent, and come back when somebody does', async (t) => {
  const name = room();
  const [alice, bob] = [await participant(t, name, 'alice'), await participant(t, name, 'bob')];
  await Promise.all([alice.join({ options: { dynacast: true } }), bob.join()]);
  await alice.lab('publishPicture', { id: 61, width: 1280, height: 720, options: { simulcast: true, videoCodec: 'vp8' } });
  // Layers come up one after the other, so frame numbers may repeat at the switches.
  const shows = async () => {
    const before = (await bob.lab('picture', 'alice'))?.readable ?? 0;
    const picture = await until('bob sees pictures', () => bob.lab('picture', 'alice'), (p) => (p?.readable ?? 0) > before + 10);
    assert.deepEqual(picture?.ids, [61]);
  };
  await shows();
  const active = async () => (await alice.lab('sent', 'camera')).filter((layer) => layer.isActive).map((layer) => layer.rid).sort().join('');
  await until('all layers are on', active, (rids) => rids === 'fhq');
  await bob.lab('setQuality', 'alice', 'LOW');
  await until('only the smallest is on', active, (rids) => rids === 'q');
  await bob.lab('setSubscribed', 'alice', 'camera', false);
  await until('none is on', active, (rids) => rids === '');
  await bob.lab('setSubscribed', 'alice', 'camera', true);
  await shows();
  await bob.lab('setQuality', 'alice', 'HIGH');
  await until('bob gets the largest', () => bob.lab('picture', 'alice'), (picture) => picture?.size === '1280x720', { withinMs: 30_000 });
});
