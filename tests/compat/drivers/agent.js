// The echo agent as a process: a worker of `livekit-agents` that registers with the server under test.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { OUT_DIR } from '../../e2e/lib/server.js';
import { DEV_KEY, DEV_SECRET } from '../../e2e/lib/token.js';
import { until } from '../../e2e/lib/wait.js';

const ROOT = new URL('../../../', import.meta.url);
/** It imports a lot. */
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 10_000;

/**
 * Starts the agent and waits until the server has taken it.
 * @param {import('../../e2e/lib/server.js').Server} server @param {string} name empty: dispatched to every new room
 */
export async function startEchoAgent(server, name) {
  await mkdir(OUT_DIR, { recursive: true });
  const python = process.env.AGENTS_PYTHON ?? fileURLToPath(new URL('.cache/agents/bin/python', ROOT));
  const child = spawn(python, [fileURLToPath(new URL('echo_agent.py', import.meta.url)), name], {
    env: { ...process.env, LIVEKIT_URL: server.wsUrl, LIVEKIT_API_KEY: DEV_KEY, LIVEKIT_API_SECRET: DEV_SECRET },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stderr.pipe(createWriteStream(`${OUT_DIR}compat-agent-${name || 'automatic'}.log`));
  let isRegistered = false;
  let hasEnded = false;
  createInterface({ input: child.stdout }).on('line', (line) => (isRegistered ||= line === 'registered'));
  const ended = new Promise((resolve) => child.once('exit', resolve)).then(() => (hasEnded = true));
  await until(`the agent ${name} is registered`, () => isRegistered || hasEnded, Boolean, { withinMs: START_LIMIT_MS });
  if (hasEnded) throw new Error(`the agent ended; see ${OUT_DIR}compat-agent-${name || 'automatic'}.log`);
  return {
    async stop() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}
