// The server under test: started on free loopback ports, or already running at SLUICE_URL.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { until } from './wait.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
export const OUT_DIR = fileURLToPath(new URL('../out/', import.meta.url));

/** @typedef {{ httpUrl: string, wsUrl: string, pid: number | null, stop: () => Promise<void> }} Server */

/**
 * Starts `sluice dev` (SLUICE_BIN, default target/debug/sluice) and waits until it answers.
 * @param {string} name of the log file in out/
 * @param {Record<string, string>} [settings] further SLUICE_SECTION__KEY overrides
 * @returns {Promise<Server>}
 */
export async function startServer(name, settings = {}) {
  const running = process.env.SLUICE_URL;
  if (running) return { ...addresses(running), pid: null, stop: async () => {} };

  const httpPort = await freeTcpPort();
  const binary = process.env.SLUICE_BIN ?? `${ROOT}target/debug/sluice`;
  await mkdir(OUT_DIR, { recursive: true });
  const log = createWriteStream(`${OUT_DIR}${name}.server.log`);
  const child = spawn(binary, ['dev'], {
    env: {
      ...process.env,
      SLUICE_SERVER__LISTEN: `127.0.0.1:${httpPort}`,
      SLUICE_MEDIA__TCP_PORT: '0',
      SLUICE_MEDIA__UDP_PORT: '0',
      SLUICE_TURN__UDP_PORT: '0',
      SLUICE_TURN__TCP_PORT: '0',
      SLUICE_LOG__LEVEL: process.env.SLUICE_LOG__LEVEL ?? 'info',
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  /** @type {string | null} */
  let ended = null;
  child.on('error', (error) => (ended = error.message));
  child.on('exit', (code, signal) => (ended = `exit code ${code}, signal ${signal}`));

  const server = addresses(`http://127.0.0.1:${httpPort}`);
  await until('the server answers', async () => ended !== null || (await answers(server.httpUrl)), Boolean, { withinMs: 20_000 });
  if (ended !== null) throw new Error(`${binary} ended: ${ended}; see ${OUT_DIR}${name}.server.log`);
  const stop = async () => {
    if (ended !== null) return;
    child.kill('SIGTERM');
    await until('the server stops', () => ended !== null, Boolean, { withinMs: 15_000 }).catch(() => child.kill('SIGKILL'));
    log.end();
  };
  return { ...server, pid: child.pid ?? null, stop };
}

/** The value of a Prometheus metric, summed over its labels. @param {Server} server @param {string} name */
export async function metric(server, name) {
  const text = await (await fetch(`${server.httpUrl}/metrics`)).text();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** @param {string} url */
function addresses(url) {
  const base = url.replace(/\/$/, '');
  return { httpUrl: base.replace(/^ws/, 'http'), wsUrl: base.replace(/^http/, 'ws') };
}

/** @param {string} url */
async function answers(url) {
  try {
    return (await fetch(`${url}/`)).status < 500;
  } catch {
    return false;
  }
}

/** @returns {Promise<number>} */
export async function freeTcpPort() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', () => resolve(undefined)));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}
