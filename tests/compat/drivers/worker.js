// A process that holds participants of a native SDK, and their "pages": what `Participant` of tests/e2e needs of a page.

import { fork, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { OUT_DIR } from '../../e2e/lib/server.js';

const HERE = new URL('./', import.meta.url);
const ROOT = new URL('../../../', HERE);
const STOP_LIMIT_MS = 5000;

/** @typedef {{ id: number, result?: unknown, error?: string }} Answer */
/** @typedef {ReturnType<typeof calls>} Worker */

/** Starts participants of the Python SDK. */
export async function startPythonWorker() {
  const python = process.env.PYTHON ?? fileURLToPath(new URL('.cache/venv/bin/python', ROOT));
  const child = spawn(python, [fileURLToPath(new URL('python_worker.py', HERE))], { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
  await keepOutput(child, 'python-worker');
  const { stdin } = child;
  const worker = calls(child, (message) => stdin?.write(`${JSON.stringify(message)}\n`), () => stdin?.end());
  createInterface({ input: /** @type {import('node:stream').Readable} */ (child.stdio[3]) }).on('line', (line) => worker.take(JSON.parse(line)));
  return worker;
}

/** Starts participants of the Node SDK. */
export async function startNodeWorker() {
  const child = fork(fileURLToPath(new URL('node_worker.js', HERE)), { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  await keepOutput(child, 'node-worker');
  const worker = calls(child, (message) => child.send(message), () => child.disconnect());
  child.on('message', (answer) => worker.take(/** @type {Answer} */ (answer)));
  return worker;
}

/** @param {import('node:child_process').ChildProcess} child @param {string} name */
async function keepOutput(child, name) {
  await mkdir(OUT_DIR, { recursive: true });
  const log = createWriteStream(`${OUT_DIR}compat-${name}.log`);
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
}

/**
 * Matches answers to calls.
 * @param {import('node:child_process').ChildProcess} child @param {(message: object) => void} send @param {() => void} end
 */
function calls(child, send, end) {
  let last = 0;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  const waiting = new Map();
  const exited = new Promise((resolve) => child.once('exit', (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`the worker ended: code ${code}, signal ${signal}`));
    waiting.clear();
    resolve(undefined);
  }));

  /** @param {string} who @param {string} method @param {unknown[]} args @returns {Promise<any>} */
  const call = (who, method, args) => new Promise((resolve, reject) => {
    const id = (last += 1);
    waiting.set(id, { resolve, reject });
    send({ id, who, method, args });
  });

  return {
    /** @param {Answer} answer */
    take({ id, result, error }) {
      const call = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) call?.resolve(result);
      else call?.reject(new Error(error));
    },
    /** A participant of its own, with the face of a page. @param {string} who */
    page(who) {
      return {
        on: () => {},
        evaluate: (/** @type {unknown} */ _function, /** @type {{ method: string, args: unknown[] }} */ { method, args }) => call(who, method, args),
        close: () => call(who, 'leave', []),
      };
    },
    async stop() {
      end();
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}
