// End-to-end encryption: the server forwards what it cannot read.

import assert from 'node:assert/strict';
import { always, until } from '../../e2e/lib/wait.js';

/** @typedef {import('../stage.js').Client} Client */
/** @typedef {import('../stage.js').Actor} Actor */
/** @typedef {import('./index.js').Case} Case */

const PICTURE_ID = 60;
const TONE_HZ = 520;
const KEY = 'the right passphrase';
/** Long enough for a wrongly decrypted frame to show up. */
const QUIET_MS = 1500;
const LAYERS_WITHIN_MS = 30_000;
/** @type {Client[]} */
const VIEWERS = ['chromium', 'firefox', 'python'];
const SIZES = { LOW: '320x180', MEDIUM: '640x360', HIGH: '1280x720' };

/**
 * Joins one room, encrypted.
 * @param {import('node:test').TestContext} t @param {import('../stage.js').Stage} stage @param {Client[]} clients
 */
async function encrypted(t, stage, clients) {
  const room = stage.room();
  const all = await Promise.all(clients.map((client, at) => stage.participant(t, client, room, clients.indexOf(client) === at ? client : `${client}-${at}`)));
  await Promise.all(all.map((who) => who.joinEncrypted(KEY)));
  return all;
}

/** @param {Client} from @param {Client[]} to @param {'vp8' | 'h264'} codec @returns {Case} */
const call = (from, to, codec) => ({
  title: `an encrypted ${codec} call from ${from} is seen and heard by ${to.join(', ')} with the key`,
  cells: [`e2ee-send@${from}`, ...to.map((client) => `e2ee-receive@${client}`)],
  async run(t, stage) {
    const [publisher, ...others] = await encrypted(t, stage, [from, ...to]);
    assert.ok(publisher);
    await publisher.do('publishPicture', { id: PICTURE_ID, options: { videoCodec: codec } });
    await publisher.do('publishTone', TONE_HZ);
    await Promise.all(others.flatMap((who) => [who.sees(publisher.identity, PICTURE_ID), who.hears(publisher.identity, TONE_HZ)]));
  },
});

/** @type {Case[]} */
export const encryption = [
  call('chromium', ['chromium', 'firefox', 'python', 'node'], 'vp8'),
  call('chromium', ['chromium', 'python'], 'h264'),
  call('firefox', ['chromium'], 'vp8'),
  call('python', ['chromium'], 'vp8'),
  call('node', ['chromium'], 'vp8'),
  {
    title: 'with the wrong key or none nothing is seen of an encrypted call, and with the right one all of it',
    cells: ['e2ee-key@chromium'],
    async run(t, stage) {
      const room = stage.room();
      const [publisher, friend, stranger, passerBy] = await Promise.all(['publisher', 'friend', 'stranger', 'passer-by'].map((identity) => stage.participant(t, 'chromium', room, identity)));
      assert.ok(publisher && friend && stranger && passerBy);
      await Promise.all([publisher.joinEncrypted(KEY), friend.joinEncrypted(KEY), stranger.joinEncrypted('a guess'), passerBy.join()]);
      await publisher.do('publishPicture', { id: PICTURE_ID });
      await friend.sees('publisher', PICTURE_ID);
      for (const who of [stranger, passerBy]) {
        await until(`${who.identity} gets the packets`, () => who.do('received', 'publisher', 'camera'), (received) => (received?.packetsReceived ?? 0) > 20);
        await always(`${who.identity} sees nothing`, QUIET_MS, () => who.do('picture', 'publisher'), (seen) => (seen?.readable ?? 0) === 0);
      }
      await stranger.do('setPassphrase', KEY);
      await stranger.sees('publisher', PICTURE_ID);
    },
  },
  {
    title: 'an encrypted simulcast track switches between its sizes without a damaged frame',
    cells: VIEWERS.map((client) => `e2ee-simulcast@${client}`),
    async run(t, stage) {
      const [publisher, ...viewers] = await encrypted(t, stage, ['chromium', ...VIEWERS]);
      assert.ok(publisher);
      await publisher.do('publishPicture', { id: PICTURE_ID, width: 1280, height: 720, options: { simulcast: true } });
      await Promise.all(viewers.map((viewer) => viewer.remote('the track is there', publisher.identity, (seen) => seen?.tracks.camera?.isSubscribed === true)));
      await until('three layers are encoded', () => publisher.do('sent', 'camera'), (layers) => layers.length === 3 && layers.every((layer) => layer.framesEncoded > 5), { withinMs: LAYERS_WITHIN_MS });
      for (const quality of /** @type {const} */ (['LOW', 'HIGH', 'MEDIUM', 'HIGH'])) {
        await Promise.all(viewers.map(async (viewer) => {
          await viewer.do('setQualityOf', publisher.identity, 'camera', quality);
          await until(`${quality} arrives`, () => viewer.do('picture', publisher.identity), (seen) => seen?.size === SIZES[quality], { withinMs: LAYERS_WITHIN_MS });
          await viewer.do('resetPicture', publisher.identity);
          const seen = await until('it moves', () => viewer.do('picture', publisher.identity), (report) => (report?.readable ?? 0) >= 10);
          assert.deepEqual([seen?.ids, seen?.unreadable], [[PICTURE_ID], 0], 'no damaged frame');
        }));
      }
    },
  },
  {
    title: 'encrypted data packets and streams are read with the key only',
    cells: ['e2ee-data@chromium', 'e2ee-data@firefox', 'e2ee-data@python', 'e2ee-data@node'],
    async run(t, stage) {
      const all = await encrypted(t, stage, ['chromium', 'firefox', 'python', 'node']);
      const stranger = await stage.participant(t, 'chromium', all[0]?.room ?? '', 'stranger');
      await stranger.joinEncrypted('a guess');
      await Promise.all([...all, stranger].map((who) => who.do('takeStreams', 'letters')));
      for (const from of all) {
        const others = all.filter((who) => who !== from);
        await until(`the packet of ${from.identity} is everywhere`, async () => {
          await from.do('send', `secret of ${from.identity}`, { reliable: true });
          return Promise.all(others.map((who) => who.do('messages')));
        }, (lists) => lists.every((list) => list.some((m) => m.text === `secret of ${from.identity}`)), { pollMs: 200 });
        await from.do('sendText', 'letters', `letter of ${from.identity}`);
        await until(`the letter of ${from.identity} is everywhere`, () => Promise.all(others.map((who) => who.do('arrived'))),
          (lists) => lists.every((list) => list.some((a) => a.text === `letter of ${from.identity}`)));
      }
      assert.deepEqual(await stranger.do('messages'), [], 'the stranger reads nothing');
      assert.deepEqual(await stranger.do('arrived'), [], 'the stranger reads nothing');
    },
  },
];
