// Wires the store, the session and the two screens together.

import { Session } from './session.ts';
import { initialState, reduce, type Change, type JoinForm } from './state.ts';
import { ticketFromAddress } from './token.ts';
import { call } from './views/call.ts';
import { shortcut } from './views/controls.ts';
import { h } from './views/dom.ts';
import { lobby } from './views/lobby.ts';
import './style.css';

const NAME_KEY = 'sluice.name';

const address = new URL(location.href);
const form: JoinForm = {
  room: address.searchParams.get('room') ?? '',
  name: address.searchParams.get('name') ?? localStorage.getItem(NAME_KEY) ?? '',
  isMicrophoneWanted: true,
  isCameraWanted: true,
};

let state = initialState(form);
const speakers = h('div', { hidden: true });
const session = new Session(address, dispatch, speakers);
const lobbyView = lobby(form, ticketFromAddress(address) !== null, { join: (wanted) => void join(wanted) });
const callView = call((videoSid) => session.video(videoSid), {
  toggle: (device) => void session.toggle(device),
  toggleChat: () => dispatch({ type: 'chat toggled' }),
  say: (text) => void session.say(text),
  copyLink,
  leave: () => void session.leave(),
  allowSound: () => void session.allowSound(),
  dismissProblem: () => dispatch({ type: 'problem dismissed' }),
});

const app = document.querySelector('#app') ?? document.body;
app.append(lobbyView.element, callView.element, speakers);
render();

document.addEventListener('keydown', (event) => {
  const wanted = state.stage === 'call' ? shortcut(event) : null;
  if (wanted === 'chat') dispatch({ type: 'chat toggled' });
  else if (wanted && !state.busy.includes(wanted)) void session.toggle(wanted);
  if (wanted) event.preventDefault();
});

async function join(wanted: JoinForm): Promise<void> {
  localStorage.setItem(NAME_KEY, wanted.name);
  await session.join(wanted);
  if (state.stage === 'call' && wanted.room) history.replaceState(null, '', roomAddress());
}

async function copyLink(): Promise<void> {
  try {
    await navigator.clipboard.writeText(roomAddress().href);
  } catch {
    dispatch({ type: 'problem', problem: { code: 'copy-not-allowed', text: 'The browser did not allow copying. Take the address from the address bar.' } });
  }
}

/** Others who open it find the room filled in; a token is its holder's own. */
function roomAddress(): URL {
  const shared = new URL(location.href);
  for (const own of ['name', 'token']) shared.searchParams.delete(own);
  if (state.form.room) shared.searchParams.set('room', state.form.room);
  return shared;
}

function dispatch(change: Change): void {
  state = reduce(state, change);
  render();
}

function render(): void {
  const isInCall = state.stage === 'call';
  lobbyView.element.hidden = isInCall;
  callView.element.hidden = !isInCall;
  if (!isInCall) lobbyView.update(state);
  callView.update(isInCall ? state : { ...state, problem: null });
}
