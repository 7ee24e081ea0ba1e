import { ConnectionError, DisconnectReason } from 'livekit-client';
import { describe, expect, it } from 'vitest';
import { deviceProblem, disconnectProblem, isChangeOfMind, joinProblem, RefusedError } from './problem.ts';

const named = (name: string, message = 'x'): Error => Object.assign(new Error(message), { name });

describe('device problems', () => {
  it.each([
    ['NotAllowedError', 'device-not-allowed'],
    ['NotFoundError', 'device-not-found'],
    ['OverconstrainedError', 'device-not-found'],
    ['NotReadableError', 'device-not-readable'],
    ['AbortError', 'device-not-readable'],
    ['TypeError', 'device-failed'],
  ])('%s becomes %s', (name, code) => {
    expect(deviceProblem(named(name), 'camera').code).toBe(code);
  });

  it('names the device', () => {
    expect(deviceProblem(named('NotFoundError'), 'camera').text).toContain('camera');
  });

  it('a closed screen picker is no problem, a screen that the system denies is one', () => {
    expect(isChangeOfMind(named('NotAllowedError', 'Permission denied'))).toBe(true);
    expect(isChangeOfMind(named('NotAllowedError', 'Permission denied by system'))).toBe(false);
    expect(isChangeOfMind(named('NotReadableError'))).toBe(false);
  });
});

describe('join problems', () => {
  it.each([
    [ConnectionError.notAllowed('token expired', 401), 'join-not-allowed'],
    [ConnectionError.serverUnreachable('no answer'), 'server-unreachable'],
    [ConnectionError.timeout('slow'), 'join-timeout'],
    [ConnectionError.internal('could not establish pc connection'), 'media-unreachable'],
    [ConnectionError.internal('broken'), 'server-error'],
    [new TypeError('Failed to fetch'), 'server-unreachable'],
  ])('%s has a code', (error, code) => {
    expect(joinProblem(error).code).toBe(code);
  });

  it('shows the words and the code of a problem document', () => {
    const refused = RefusedError.from(429, { type: 'about:blank', title: 'Too many', status: 429, code: 'token-rate', detail: 'Wait a second.' });
    expect(joinProblem(refused)).toEqual({ code: 'token-rate', text: 'Wait a second.' });
  });

  it('makes a code from the status when the answer is no problem document', () => {
    expect(RefusedError.from(502, '<html>').problem.code).toBe('http-502');
  });
});

describe('the end of a call', () => {
  it.each([
    [DisconnectReason.CLIENT_INITIATED, undefined],
    [DisconnectReason.DUPLICATE_IDENTITY, 'replaced'],
    [DisconnectReason.PARTICIPANT_REMOVED, 'removed'],
    [DisconnectReason.ROOM_DELETED, 'room-closed'],
    [DisconnectReason.SERVER_SHUTDOWN, 'server-shutdown'],
    [undefined, 'connection-lost'],
  ])('reason %s becomes %s', (reason, code) => {
    expect(disconnectProblem(reason)?.code).toBe(code);
  });
});
