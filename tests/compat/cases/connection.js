// How clients connect and come back: both peer connection modes, resume, full reconnect.

import assert from 'node:assert/strict';
import { until } from '../../e2e/lib/wait.js';

/** @typedef {import('../stage.js').Client} Client */
/** @typedef {import('./index.js').Case} Case */

/** @type {Client[]} */
const ALL = ['chromium', 'firefox', 'python', 'node'];
const PICTURE_ID = 70;
const ANSWER_ID = 71;
const REPEAT_MS = 300;
/** Names of the event after a reconnect, per SDK. */
const RECONNECTED = ['reconnected', 'signalReconnected'];

/** What the server's log of an SDK cannot show: whether one peer connection carries both directions. @type {Client[]} */
const BROWSERS = ['chromium', 'firefox'];

/** @type {Case[]} */
export const connection = [
  ...[true, false].flatMap((isSingle) => (/** @type {Client[]} */ (['chromium', 'firefox', 'python'])).map((client) => ({
    title: `${client} calls with ${isSingle ? 'one peer connection' : 'a peer connection per direction'}`,
    cells: [`${isSingle ? 'single' : 'dual'}-pc@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [who, other] = await stage.together(t, [client, 'chromium'], { options: { singlePeerConnection: isSingle } });
      assert.ok(who && other);
      await Promise.all([who.do('publishPicture', { id: PICTURE_ID }), other.do('publishPicture', { id: ANSWER_ID }), who.do('publishTone', 440)]);
      await Promise.all([who.sees(other.identity, ANSWER_ID), other.sees(who.identity, PICTURE_ID), other.hears(who.identity, 440)]);
      if (BROWSERS.includes(client)) assert.equal(await who.do('usesSinglePeerConnection'), isSingle);
    },
  }))),
  {
    title: 'firefox calls through the relay alone',
    cells: ['relay-only@firefox'],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const room = stage.room();
      const who = await stage.participant(t, 'firefox', room);
      const other = await stage.participant(t, 'chromium', room);
      await Promise.all([who.join({ rtcConfig: { iceTransportPolicy: 'relay' } }), other.join()]);
      await Promise.all([who.do('publishPicture', { id: PICTURE_ID }), other.do('publishPicture', { id: ANSWER_ID }), who.do('publishTone', 440)]);
      await Promise.all([who.sees(other.identity, ANSWER_ID), other.sees(who.identity, PICTURE_ID), other.hears(who.identity, 440)]);
      const paths = await who.do('paths');
      assert.ok(paths.length > 0 && paths.every((path) => path.local === 'relay'), JSON.stringify(paths));
    },
  },
  ...['signal-reconnect', 'full-reconnect'].flatMap((scenario) => ALL.map((client) => ({
    title: `${client} sees and is seen again after ${scenario}`,
    cells: [`${scenario}@${client}`],
    async run(/** @type {import('node:test').TestContext} */ t, /** @type {import('../stage.js').Stage} */ stage) {
      const [who, other] = await stage.together(t, [client, 'chromium']);
      assert.ok(who && other);
      await Promise.all([who.do('publishPicture', { id: PICTURE_ID }), other.do('publishPicture', { id: ANSWER_ID })]);
      await Promise.all([who.sees(other.identity, ANSWER_ID), other.sees(who.identity, PICTURE_ID)]);
      const sid = (await other.do('remote', who.identity))?.sid;
      await who.do('simulate', /** @type {any} */ (scenario));
      await until('the SDK says that it is back', () => who.do('events'), (events) => events.some((event) => RECONNECTED.includes(event.name)), { withinMs: 20_000 });
      await Promise.all([who.do('resetPicture', other.identity), other.do('resetPicture', who.identity)]);
      await Promise.all([who.sees(other.identity, ANSWER_ID), other.sees(who.identity, PICTURE_ID)]);
      const seen = await other.do('remote', who.identity);
      if (scenario === 'signal-reconnect') assert.equal(seen?.sid, sid, 'a resume keeps the session');
      // livekit-client sends no data for two seconds after it said that it is back.
      await until('data goes both ways', async () => {
        await Promise.all([who.do('send', 'still here', { reliable: true }), other.do('send', 'me too', { reliable: true })]);
        return Promise.all([who.do('messages'), other.do('messages')]);
      }, ([mine, theirs]) => mine.some((m) => m.text === 'me too') && theirs.some((m) => m.text === 'still here'), { pollMs: REPEAT_MS });
    },
  }))),
];
