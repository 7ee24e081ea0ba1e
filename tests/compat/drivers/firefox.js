// Firefox by WebDriver BiDi, with the bare page of tests/e2e.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { until } from '../../e2e/lib/wait.js';

const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';

/** What an automatic call needs: no questions, fake devices, loopback candidates, sound without a click. */
const PREFERENCES = {
  'media.navigator.permission.disabled': true,
  'media.navigator.streams.fake': true,
  'media.devices.insecure.enabled': true,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.gmp-manager.updateEnabled': false,
  'dom.min_background_timeout_value': 4,
  // A window behind another one shows its frames at full rate too.
  'layout.throttled_frame_rate': 60,
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};

/** @typedef {Awaited<ReturnType<typeof launchFirefox>>} Firefox */

/**
 * Starts a sound server with an output that nobody hears: without any, Firefox's AudioContext stands still, and the page
 * neither makes nor measures a tone.
 */
async function startSilentSpeaker() {
  const folder = await mkdtemp(join(tmpdir(), 'compat-sound-'));
  const socket = join(folder, 'socket');
  const options = ['-n', '--daemonize=no', '--use-pid-file=no', '--exit-idle-time=-1', '-L', 'module-null-sink', '-L', `module-native-protocol-unix socket=${socket} auth-anonymous=1`];
  const child = spawn('pulseaudio', options, { env: { ...process.env, HOME: folder, XDG_RUNTIME_DIR: folder }, stdio: 'ignore' });
  const exited = new Promise((resolve) => child.once('exit', resolve).once('error', resolve));
  await until('the sound server listens', () => existsSync(socket));
  return {
    address: `unix:${socket}`,
    async stop() {
      child.kill('SIGTERM');
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Starts one Firefox; each page gets a context of its own. */
export async function launchFirefox() {
  const speaker = await startSilentSpeaker();
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: FIREFOX,
    headless: true,
    extraPrefsFirefox: PREFERENCES,
    env: { ...process.env, PULSE_SERVER: speaker.address },
  });
  return {
    version: () => browser.version(),
    async close() {
      await browser.close();
      await speaker.stop();
    },
    /** @param {string} url */
    async page(url) {
      const context = await browser.createBrowserContext();
      const page = await context.newPage({ type: 'window' });
      await page.goto(url);
      return { page, close: () => context.close() };
    },
  };
}
