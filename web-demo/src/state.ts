// Everything the page shows, and the only place where it changes: `reduce`.

import type { Problem } from './problem.ts';

export type Quality = 'excellent' | 'good' | 'poor' | 'lost';

/** One picture in the grid: a participant's camera (or their initial), or a shared screen. */
export interface Tile {
  /** Stable while the participant stays: "sid/camera" or "sid/screen". */
  key: string;
  name: string;
  isLocal: boolean;
  isScreen: boolean;
  isSpeaking: boolean;
  isMuted: boolean;
  /** Identifies the video track to show; null: no picture. */
  videoSid: string | null;
  /** How well the participant's media gets through, as the server says; null: it has not said yet, or it is said elsewhere. */
  quality: Quality | null;
}

export interface Me {
  isMicrophoneOn: boolean;
  isCameraOn: boolean;
  isScreenOn: boolean;
}

export type Device = 'microphone' | 'camera' | 'screen';

export interface ChatMessage {
  from: string;
  text: string;
  isMine: boolean;
  at: Date;
}

export interface JoinForm {
  room: string;
  name: string;
  isMicrophoneWanted: boolean;
  isCameraWanted: boolean;
}

export interface State {
  stage: 'lobby' | 'joining' | 'call';
  form: JoinForm;
  isReconnecting: boolean;
  /** The browser plays no sound until the person clicks. */
  isSoundBlocked: boolean;
  tiles: Tile[];
  me: Me;
  /** Devices that are being switched; their buttons wait. */
  busy: Device[];
  chat: { isOpen: boolean; unread: number; messages: ChatMessage[] };
  problem: Problem | null;
}

export type Change =
  | { type: 'joining'; form: JoinForm }
  | { type: 'joined' }
  | { type: 'join failed'; problem: Problem }
  | { type: 'left'; problem: Problem | null }
  | { type: 'roster'; tiles: Tile[]; me: Me }
  | { type: 'reconnecting' }
  | { type: 'reconnected' }
  | { type: 'sound'; isBlocked: boolean }
  | { type: 'device busy'; device: Device }
  | { type: 'device ready'; device: Device; problem: Problem | null }
  | { type: 'message'; message: ChatMessage }
  | { type: 'chat toggled' }
  | { type: 'problem'; problem: Problem }
  | { type: 'problem dismissed' };

/** Older messages are forgotten beyond this many. */
export const MESSAGES_KEPT = 200;

export function initialState(form: JoinForm): State {
  return { stage: 'lobby', form, problem: null, ...nobody() };
}

export function reduce(state: State, change: Change): State {
  switch (change.type) {
    case 'joining':
      return { ...state, stage: 'joining', form: change.form, problem: null, ...nobody() };
    case 'joined':
      return { ...state, stage: 'call' };
    case 'join failed':
      return { ...state, stage: 'lobby', problem: change.problem, ...nobody() };
    case 'left':
      return state.stage === 'lobby' ? state : { ...state, stage: 'lobby', problem: change.problem, ...nobody() };
    case 'roster':
      return { ...state, tiles: change.tiles, me: change.me };
    case 'reconnecting':
      return { ...state, isReconnecting: true };
    case 'reconnected':
      return { ...state, isReconnecting: false };
    case 'sound':
      return { ...state, isSoundBlocked: change.isBlocked };
    case 'device busy':
      return { ...state, busy: [...state.busy, change.device] };
    case 'device ready':
      return { ...state, busy: state.busy.filter((device) => device !== change.device), problem: change.problem ?? state.problem };
    case 'message': {
      const { isOpen, unread, messages } = state.chat;
      const kept = [...messages, change.message].slice(-MESSAGES_KEPT);
      return { ...state, chat: { isOpen, unread: isOpen || change.message.isMine ? unread : unread + 1, messages: kept } };
    }
    case 'chat toggled':
      return { ...state, chat: { ...state.chat, isOpen: !state.chat.isOpen, unread: 0 } };
    case 'problem':
      return { ...state, problem: change.problem };
    case 'problem dismissed':
      return { ...state, problem: null };
  }
}

function nobody(): Pick<State, 'isReconnecting' | 'isSoundBlocked' | 'tiles' | 'me' | 'busy' | 'chat'> {
  return {
    isReconnecting: false,
    isSoundBlocked: false,
    tiles: [],
    me: { isMicrophoneOn: false, isCameraOn: false, isScreenOn: false },
    busy: [],
    chat: { isOpen: false, unread: 0, messages: [] },
  };
}
