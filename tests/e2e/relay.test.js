// Calls through the embedded TURN server, for clients that may use nothing else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab } from './lib/lab.js';
import { metric } from './lib/server.js';
import { until } from './lib/wait.js';

const { room, participant, server } = lab('relay');

/** A join that uses relays only, with one peer connection or with two. @param {'single' | 'dual'} mode */
const relayed = (mode) => ({
  rtcConfig: { iceTransportPolicy: /** @type {const} */ ('relay') },
  options: { singlePeerConnection: mode === 'single' },
});

test('two participants who may use relays only see and hear each other', async (t) => {
  const name = room();
  const alice = await participant(t, name, 'alice');
  const bob = await participant(t, name, 'bob');
  await Promise.all([alice.join(relayed('single')), bob.join(relayed('dual'))]);
  await Promise.all([alice.lab('publishPicture', { id: 11 }), bob.lab('publishPicture', { id: 22 }), alice.lab('publishTone', 440), bob.lab('publishTone', 660)]);
  await Promise.all([bob.sees('alice', 11), alice.sees('bob', 22), bob.hears('alice', 440), alice.hears('bob', 660)]);

  for (const who of [alice, bob]) {
    const paths = await who.lab('paths');
    // Only what goes through a relay has its protocol; Chromium may call the candidate by how it learned of it last.
    assert.ok(paths.length > 0 && paths.every((path) => path.relayProtocol !== ''), JSON.stringify(paths));
  }
  await until('the relayed bytes are counted', () => metric(server(), 'turn_relayed_bytes_total'), (bytes) => bytes > 100_000);
  assert.ok((await metric(server(), 'turn_allocations')) >= 2);

  // credentials end with the participant
  await alice.lab('leave');
  await bob.lab('leave');
  await until('nothing is allocated', () => metric(server(), 'turn_allocations'), (count) => count === 0);
});

test('credentials are for one participant and end with it', async (t) => {
  const alice = await participant(t, room(), 'alice');
  await alice.join(relayed('single'));
  const [told] = await alice.lab('iceServers');
  assert.ok(told);
  assert.ok(told.username?.includes('PA_'), JSON.stringify(told));
  const candidates = () =>
    alice.page.evaluate(async (iceServer) => {
      const connection = new RTCPeerConnection({ iceServers: [iceServer], iceTransportPolicy: 'relay' });
      connection.createDataChannel('x');
      /** @type {string[]} */
      const found = [];
      const done = new Promise((resolve) => (connection.onicecandidate = ({ candidate }) => (candidate ? found.push(candidate.type ?? '') : resolve(undefined))));
      await connection.setLocalDescription();
      await done;
      connection.close();
      return found;
    }, told);
  assert.ok((await candidates()).includes('relay'));
  await alice.lab('leave');
  await until('they are refused', candidates, (found) => found.length === 0);
});
