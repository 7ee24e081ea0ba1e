// The main job: participants see and hear each other, verified by content.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launchBrowser } from './lib/browser.js';
import { pictureFile, toneFile } from './lib/capture.js';
import { lab } from './lib/lab.js';

const { room, participant } = lab('call');

for (const codec of /** @type {const} */ (['vp8', 'h264'])) {
  test(`two participants see and hear each other in ${codec}`, async (t) => {
    const name = room();
    const alice = await participant(t, name, 'alice');
    const bob = await participant(t, name, 'bob');
    await Promise.all([alice.join(), bob.join()]);
    await Promise.all([
      alice.lab('publishPicture', { id: 11, options: { videoCodec: codec } }),
      bob.lab('publishPicture', { id: 22, options: { videoCodec: codec } }),
      alice.lab('publishTone', 440),
      bob.lab('publishTone', 660),
    ]);
    await Promise.all([bob.sees('alice', 11), alice.sees('bob', 22), bob.hears('alice', 440), alice.hears('bob', 660)]);
    const received = await bob.lab('received', 'alice', 'camera');
    assert.equal(received?.mimeType.toLowerCase(), `video/${codec}`);
    assert.deepEqual([alice.faults, bob.faults], [[], []]);
  });
}

test('two browsers with a camera and a microphone each see and hear each other', async (t) => {
  const name = room();
  const [first, second] = await Promise.all([
    Promise.all([pictureFile({ id: 71 }), toneFile(520)]).then(([video, audio]) => launchBrowser({ video, audio })),
    Promise.all([pictureFile({ id: 72 }), toneFile(780)]).then(([video, audio]) => launchBrowser({ video, audio })),
  ]);
  t.after(() => Promise.all([first.close(), second.close()]));
  const alice = await participant(t, name, 'alice', first);
  const bob = await participant(t, name, 'bob', second);
  await Promise.all([alice.join(), bob.join()]);
  await Promise.all([alice.lab('publishDevices'), bob.lab('publishDevices')]);
  await Promise.all([bob.sees('alice', 71), alice.sees('bob', 72), bob.hears('alice', 520), alice.hears('bob', 780)]);
});

test('three participants each see and hear both others', async (t) => {
  const name = room();
  const people = [
    { identity: 'alice', id: 31, hz: 440 },
    { identity: 'bob', id: 32, hz: 660 },
    { identity: 'carol', id: 33, hz: 880 },
  ];
  const inCall = await Promise.all(people.map(async (who) => ({ ...who, page: await participant(t, name, who.identity) })));
  await Promise.all(inCall.map((who) => who.page.join()));
  await Promise.all(inCall.map((who) => Promise.all([who.page.lab('publishPicture', { id: who.id }), who.page.lab('publishTone', who.hz)])));
  const pairs = inCall.flatMap((me) => inCall.filter((other) => other !== me).map((other) => ({ me, other })));
  await Promise.all(pairs.flatMap(({ me, other }) => [me.page.sees(other.identity, other.id), me.page.hears(other.identity, other.hz)]));
});
