// What can go wrong, each with a code that a support question can quote and a sentence for the person in front of it.

import { ConnectionError, ConnectionErrorReason, DisconnectReason } from 'livekit-client';

export type ProblemCode =
  | 'device-not-allowed'
  | 'device-not-found'
  | 'device-not-readable'
  | 'device-failed'
  | 'join-not-allowed'
  | 'join-timeout'
  | 'server-unreachable'
  | 'media-unreachable'
  | 'server-error'
  | 'replaced'
  | 'removed'
  | 'room-closed'
  | 'server-shutdown'
  | 'connection-lost'
  | 'message-not-sent'
  | 'copy-not-allowed';

export interface Problem {
  /** One of ours, or a code that the server gave. */
  code: ProblemCode | (string & {});
  text: string;
}

/** A camera, microphone or screen that could not be opened. */
export function deviceProblem(error: unknown, device: string): Problem {
  const name = error instanceof Error ? error.name : '';
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return { code: 'device-not-allowed', text: `The browser did not allow the ${device}. Allow it in the address bar and try again.` };
    case 'NotFoundError':
    case 'OverconstrainedError':
      return { code: 'device-not-found', text: `No ${device} was found.` };
    case 'NotReadableError':
    case 'AbortError':
      return { code: 'device-not-readable', text: `The ${device} does not answer. Another program may be using it.` };
    default:
      return { code: 'device-failed', text: `The ${device} could not be switched on: ${messageOf(error)}` };
  }
}

/** A person who closes the browser's own screen picker changed their mind: nothing went wrong. */
export function isChangeOfMind(error: unknown): boolean {
  return error instanceof Error && error.name === 'NotAllowedError' && !/by system/i.test(error.message);
}

/** A join that did not work. */
export function joinProblem(error: unknown): Problem {
  if (error instanceof RefusedError) return error.problem;
  if (!(error instanceof ConnectionError)) return { code: 'server-unreachable', text: `The server does not answer: ${messageOf(error)}` };
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      return { code: 'join-not-allowed', text: `The server refused the access token: ${withoutPrefix(error.message)}` };
    case ConnectionErrorReason.Timeout:
      return { code: 'join-timeout', text: 'The server took too long to answer.' };
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.WebSocket:
    case ConnectionErrorReason.ServiceNotFound:
      return { code: 'server-unreachable', text: `The server does not answer: ${withoutPrefix(error.message)}` };
    default:
      return /pc connection|peer connection/i.test(error.message)
        ? { code: 'media-unreachable', text: 'The server answers, but audio and video cannot reach it. A firewall may block UDP.' }
        : { code: 'server-error', text: `The server could not let you in: ${withoutPrefix(error.message)}` };
  }
}

/** The end of a call that the person did not ask for; null when they did. */
export function disconnectProblem(reason: DisconnectReason | undefined): Problem | null {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return null;
    case DisconnectReason.DUPLICATE_IDENTITY:
      return { code: 'replaced', text: 'You joined from another window, which took your place.' };
    case DisconnectReason.PARTICIPANT_REMOVED:
      return { code: 'removed', text: 'You were removed from the room.' };
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return { code: 'room-closed', text: 'The room was closed.' };
    case DisconnectReason.SERVER_SHUTDOWN:
      return { code: 'server-shutdown', text: 'The server is going down. Join again in a moment.' };
    default:
      return { code: 'connection-lost', text: 'The connection was lost and could not be restored.' };
  }
}

/** The server's own refusal, an RFC 9457 problem document. */
export class RefusedError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.text);
    this.name = 'RefusedError';
  }

  static from(status: number, body: unknown): RefusedError {
    const { code, title, detail } = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
    const text = [detail, title].find((part) => typeof part === 'string' && part !== '');
    return new RefusedError({
      code: typeof code === 'string' ? code : `http-${status}`,
      text: typeof text === 'string' ? text : `The server answered with status ${status}.`,
    });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The SDK repeats what it was doing before the server's words. */
function withoutPrefix(message: string): string {
  return message.replace(/^could not establish signal connection: /, '');
}
