// The web demo as a person uses it: form, grid, buttons, chat, screen share, leaving.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchBrowser } from './lib/browser.js';
import { pictureFile } from './lib/capture.js';
import { read } from './lib/picture.js';
import { OUT_DIR, startServer } from './lib/server.js';
import { until } from './lib/wait.js';

const WIDTH = 320;
const HEIGHT = 180;
const PICTURE = { alice: 91, bob: 92 };

/** @type {import('./lib/server.js').Server} */
let server;
/** @type {import('./lib/browser.js').TestBrowser} */
let aliceBrowser;
/** @type {import('./lib/browser.js').TestBrowser} */
let bobBrowser;
let rooms = 0;

before(async () => {
  server = await startServer('demo');
  aliceBrowser = await launchBrowser({ video: await pictureFile({ id: PICTURE.alice }) });
  bobBrowser = await launchBrowser({ video: await pictureFile({ id: PICTURE.bob }) });
});
after(async () => {
  await aliceBrowser?.close();
  await bobBrowser?.close();
  await server?.stop();
});

/**
 * Opens the demo. DEMO_URL points elsewhere while the page is developed with another server.
 * @param {import('node:test').TestContext} t @param {import('./lib/browser.js').TestBrowser} browser
 */
async function open(t, browser, permissions = ['camera', 'microphone', 'clipboard-read', 'clipboard-write'], viewport = { width: 1280, height: 760 }) {
  const context = await browser.newContext({ viewport, permissions });
  t.after(() => context.close().catch(() => {}));
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(`${process.env.DEMO_URL ?? server.httpUrl}/`);
  return page;
}

/** @typedef {import('playwright-core').Page} Page */

/** @param {Page} page @param {string} room @param {string} name */
async function join(page, room, name) {
  await page.getByRole('textbox', { name: 'Room' }).fill(room);
  await page.getByRole('textbox', { name: 'Your name' }).fill(name);
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByRole('button', { name: 'Leave the call' }).waitFor();
}

/** The caption that the tile of `name` shows, or null. @param {Page} page @param {string} name */
async function captionIn(page, name) {
  const luma = await page.evaluate(([who, width, height]) => {
    const video = /** @type {HTMLVideoElement | null} */ (document.querySelector(`.tile[data-name="${who}"] video:not([hidden])`));
    const draw = new OffscreenCanvas(Number(width), Number(height)).getContext('2d');
    if (!video || video.videoWidth === 0 || !draw) return null;
    draw.drawImage(video, 0, 0, Number(width), Number(height));
    const { data } = draw.getImageData(0, 0, Number(width), Number(height));
    return Array.from({ length: data.length / 4 }, (_, i) => data[i * 4 + 1] ?? 0);
  }, [name, WIDTH, HEIGHT]);
  return luma && read((x, y) => luma[y * WIDTH + x] ?? 0, WIDTH, HEIGHT);
}

/** @param {Page} page @param {string} name @param {number} id */
async function shows(page, name, id) {
  const first = await until(`the tile of ${name} shows picture ${id}`, () => captionIn(page, name), (caption) => caption?.id === id, { pollMs: 150 });
  await until(`the picture of ${name} moves`, () => captionIn(page, name), (caption) => caption !== null && caption.number !== first?.number, { pollMs: 150 });
}

const newRoom = () => `demo ${process.pid} ${(rooms += 1)}`;

test('two people meet through the form and see each other', async (t) => {
  const room = newRoom();
  const [alice, bob] = [await open(t, aliceBrowser), await open(t, bobBrowser)];
  await alice.screenshot({ path: `${OUT_DIR}demo-lobby.png` });
  await Promise.all([join(alice, room, 'Alice'), join(bob, room, 'Bob')]);
  await Promise.all([shows(alice, 'Bob', PICTURE.bob), shows(bob, 'Alice', PICTURE.alice)]);
  assert.equal(await bob.locator('.tile').count(), 2);
  await alice.locator('.tile.speaking[data-name="Bob"]').waitFor();
  await bob.screenshot({ path: `${OUT_DIR}demo-call.png` });
});

test('muting, chat and screen share are seen by the others, and leaving takes the tile away', async (t) => {
  const room = newRoom();
  const [alice, bob, carol] = [await open(t, aliceBrowser), await open(t, bobBrowser), await open(t, aliceBrowser)];
  await Promise.all([join(alice, room, 'Alice'), join(bob, room, 'Bob'), join(carol, room, 'Carol')]);
  await shows(bob, 'Alice', PICTURE.alice);
  await shows(alice, 'Bob', PICTURE.bob);

  await alice.getByRole('button', { name: 'Turn the microphone off' }).click();
  await bob.locator('.tile[data-name="Alice"] .microphone-off:not([hidden])').waitFor();
  await alice.getByRole('button', { name: 'Turn the camera off' }).click();
  await bob.locator('.tile[data-name="Alice"] .initial:not([hidden])').waitFor();
  await alice.keyboard.press('m');
  await bob.locator('.tile[data-name="Alice"] .microphone-off').waitFor({ state: 'hidden' });

  await bob.getByRole('button', { name: 'Chat' }).click();
  await bob.getByRole('textbox', { name: 'Message' }).fill('Hello from Bob');
  await bob.keyboard.press('Enter');
  await alice.getByRole('button', { name: 'Chat, 1 unread' }).click();
  await alice.getByText('Hello from Bob').waitFor();

  await carol.getByRole('button', { name: 'Share the screen' }).click();
  await bob.locator('.tile.screen video:not([hidden])').waitFor();
  await until('the shared screen has a picture', () => bob.locator('.tile.screen video').evaluate((video) => /** @type {HTMLVideoElement} */ (video).videoWidth), (width) => width > 0);
  await bob.screenshot({ path: `${OUT_DIR}demo-screen-share.png` });
  await carol.getByRole('button', { name: 'Stop sharing' }).click();
  await bob.locator('.tile.screen').waitFor({ state: 'detached' });

  await carol.getByRole('button', { name: 'Leave the call' }).click();
  await carol.getByRole('button', { name: 'Join' }).waitFor();
  await bob.locator('.tile[data-name="Carol"]').waitFor({ state: 'detached' });
});

test('a camera that is not allowed is named with its code and the call goes on without it', async (t) => {
  const page = await open(t, aliceBrowser, ['microphone']);
  await page.evaluate(() => {
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      if (wanted?.video) throw new DOMException('Permission denied', 'NotAllowedError');
      return real(wanted);
    };
  });
  await join(page, newRoom(), 'Alice');
  await page.getByText('device-not-allowed').waitFor();
  await page.getByRole('button', { name: 'Turn the microphone off' }).waitFor();
  await page.screenshot({ path: `${OUT_DIR}demo-device-error.png` });
  await page.getByRole('button', { name: 'Dismiss' }).click();
  await page.getByText('device-not-allowed').waitFor({ state: 'hidden' });
});

test('a refused token is shown with its code in the form', async (t) => {
  const page = await open(t, aliceBrowser);
  const address = new URL(page.url());
  address.searchParams.set('url', server.wsUrl);
  address.searchParams.set('token', 'not.a.token');
  await page.goto(address.href);
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('join-not-allowed').waitFor();
});
