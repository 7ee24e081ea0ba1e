// Messages to everyone in the room; they live as long as the call.

import type { State } from '../state.ts';
import { h, type View } from './dom.ts';
import { icon } from './icons.ts';

export interface ChatActions {
  say(text: string): void;
  toggleChat(): void;
}

export function chat(actions: ChatActions): View<State['chat']> {
  const list = h('ol', { class: 'messages', 'aria-live': 'polite' });
  const input = h('input', { name: 'message', 'aria-label': 'Message', placeholder: 'Message to everyone', maxlength: '1000', autocomplete: 'off' });
  const submit = (event: Event): void => {
    event.preventDefault();
    const text = input.value.trim();
    input.value = '';
    if (text) actions.say(text);
  };
  const close = h('button', { type: 'button', class: 'plain', 'aria-label': 'Close the chat', onclick: actions.toggleChat }, icon('close'));
  const send = h('button', { type: 'submit', class: 'plain', 'aria-label': 'Send' }, icon('send'));
  const element = h('aside', { class: 'chat', 'aria-label': 'Chat', hidden: true },
    h('header', {}, h('h2', {}, 'Chat'), close), list, h('form', { onsubmit: submit }, input, send));
  let shown: State['chat']['messages'] = [];

  return {
    element,
    update({ isOpen, messages }) {
      const isOpening = isOpen && element.hidden;
      element.hidden = !isOpen;
      if (isOpening) input.focus();
      if (messages === shown) return;
      shown = messages;
      list.replaceChildren(...messages.map(({ from, text, isMine, at }) =>
        h('li', { class: isMine ? 'mine' : '' },
          h('p', { class: 'meta' }, h('b', {}, from), ' ', h('time', { datetime: at.toISOString() }, at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }))),
          h('p', {}, text))));
      list.scrollTop = list.scrollHeight;
    },
  };
}
