// The first screen: room, name, and whether to come with microphone and camera.

import type { JoinForm, State } from '../state.ts';
import { h, setText, type View } from './dom.ts';
import { icon, type Icon } from './icons.ts';

export interface LobbyActions {
  join(form: JoinForm): void;
}

/** A token from the page's address decides the room, so only the name is asked for. */
export function lobby(initial: JoinForm, isRoomFixed: boolean, actions: LobbyActions): View<State> {
  const room = h('input', { id: 'room', name: 'room', required: true, maxlength: '64', autocomplete: 'off', spellcheck: 'false', placeholder: 'standup', value: initial.room });
  const name = h('input', { id: 'name', name: 'name', required: true, maxlength: '64', autocomplete: 'name', placeholder: 'Ada', value: initial.name });
  const microphone = choice('microphone', 'Microphone', initial.isMicrophoneWanted);
  const camera = choice('camera', 'Camera', initial.isCameraWanted);
  const join = h('button', { type: 'submit', class: 'primary' }, 'Join');
  const problem = h('p', { class: 'form-problem', role: 'alert', hidden: true });

  const submit = (event: Event): void => {
    event.preventDefault();
    actions.join({ room: room.value.trim(), name: name.value.trim(), isMicrophoneWanted: microphone.input.checked, isCameraWanted: camera.input.checked });
  };
  if (isRoomFixed) room.required = name.required = false;
  const form = h(
    'form',
    { class: 'join', onsubmit: submit, 'aria-labelledby': 'title' },
    h('div', { class: 'brand' }, h('img', { src: '/favicon.svg', alt: '', width: '40', height: '40' }), h('h1', { id: 'title' }, 'Sluice')),
    h('p', { class: 'lead' }, 'Open this page in a second window, or send its address to someone, and meet in the same room.'),
    ...(isRoomFixed ? [] : [h('label', { for: 'room' }, 'Room'), room, h('label', { for: 'name' }, 'Your name'), name]),
    h('fieldset', {}, h('legend', {}, 'Join with'), microphone.label, camera.label),
    problem,
    join,
  );
  const element = h('main', { class: 'lobby' }, form);

  return {
    element,
    update(state) {
      const isJoining = state.stage === 'joining';
      join.disabled = isJoining;
      join.setAttribute('aria-busy', String(isJoining));
      setText(join, isJoining ? 'Joining…' : 'Join');
      problem.hidden = state.problem === null;
      if (state.problem) problem.replaceChildren(state.problem.text, ' ', h('code', {}, state.problem.code));
    },
  };
}

function choice(name: Icon, text: string, isChecked: boolean) {
  const input = h('input', { type: 'checkbox', name, checked: isChecked });
  return { input, label: h('label', { class: 'choice' }, input, icon(name), h('span', {}, text)) };
}
