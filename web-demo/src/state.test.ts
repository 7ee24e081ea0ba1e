import { describe, expect, it } from 'vitest';
import { initialState, MESSAGES_KEPT, reduce, type ChatMessage, type Change, type JoinForm, type State } from './state.ts';

const form: JoinForm = { room: 'standup', name: 'Ada', isMicrophoneWanted: true, isCameraWanted: true };
const inCall = after({ type: 'joining', form }, { type: 'joined' });

describe('the way into a call and out of it', () => {
  it('keeps the form after a failed join and shows the problem', () => {
    const state = after({ type: 'joining', form }, { type: 'join failed', problem: { code: 'join-timeout', text: 'too long' } });
    expect(state).toMatchObject({ stage: 'lobby', form, problem: { code: 'join-timeout' } });
  });

  it('forgets the problem of the last attempt when joining again', () => {
    const failed = after({ type: 'join failed', problem: { code: 'server-error', text: '' } });
    expect(reduce(failed, { type: 'joining', form }).problem).toBeNull();
  });

  it('forgets tiles, devices and chat of the call that ended', () => {
    const busy = [...says('hello'), { type: 'device busy', device: 'camera' } as const, { type: 'reconnecting' } as const];
    const state = busy.reduce(reduce, inCall);
    expect(reduce(state, { type: 'left', problem: null })).toEqual({ ...initialState(form) });
  });

  it('does not let the end of an old call overwrite the problem in the lobby', () => {
    const failed = after({ type: 'join failed', problem: { code: 'server-error', text: '' } });
    expect(reduce(failed, { type: 'left', problem: null })).toBe(failed);
  });
});

describe('devices', () => {
  it('waits only for the device that is being switched', () => {
    const state = [{ type: 'device busy', device: 'camera' }, { type: 'device busy', device: 'microphone' }, { type: 'device ready', device: 'camera', problem: null }] as const;
    expect(state.reduce<State>(reduce, inCall).busy).toEqual(['microphone']);
  });

  it('shows why a device failed and keeps it until dismissed', () => {
    const failed = reduce(inCall, { type: 'device ready', device: 'camera', problem: { code: 'device-not-found', text: '' } });
    expect(reduce(failed, { type: 'device ready', device: 'microphone', problem: null }).problem?.code).toBe('device-not-found');
    expect(reduce(failed, { type: 'problem dismissed' }).problem).toBeNull();
  });
});

describe('chat', () => {
  it('counts unread messages while closed, not the own ones', () => {
    const state = [...says('one'), ...says('two', true)].reduce<State>(reduce, inCall);
    expect(state.chat.unread).toBe(1);
    expect(reduce(state, { type: 'chat toggled' }).chat).toMatchObject({ isOpen: true, unread: 0 });
  });

  it('counts nothing while open', () => {
    const open = reduce(inCall, { type: 'chat toggled' });
    expect(says('one').reduce<State>(reduce, open).chat.unread).toBe(0);
  });

  it('keeps the newest messages only', () => {
    const many = Array.from({ length: MESSAGES_KEPT + 5 }, (_, i) => says(`${i}`)).flat();
    const { messages } = many.reduce<State>(reduce, inCall).chat;
    expect(messages).toHaveLength(MESSAGES_KEPT);
    expect(messages.at(-1)?.text).toBe(`${MESSAGES_KEPT + 4}`);
  });
});

function after(...changes: Change[]): State {
  return changes.reduce(reduce, initialState(form));
}

function says(text: string, isMine = false): { type: 'message'; message: ChatMessage }[] {
  return [{ type: 'message', message: { from: 'Bob', text, isMine, at: new Date(0) } }];
}
