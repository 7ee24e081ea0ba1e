// The second screen: banner, grid, chat, controls.

import type { State } from '../state.ts';
import { chat, type ChatActions } from './chat.ts';
import { controls, type ControlActions } from './controls.ts';
import { h, setText, type View } from './dom.ts';
import { grid } from './grid.ts';
import { icon } from './icons.ts';
import type { FindVideo } from './tile.ts';

export interface CallActions extends ControlActions, ChatActions {
  allowSound(): void;
  dismissProblem(): void;
}

export function call(findVideo: FindVideo, actions: CallActions): View<State> {
  const room = h('h1');
  const count = h('span', { class: 'count' });
  const banner = h('p', { class: 'banner', role: 'status' });
  const sound = h('button', { type: 'button', class: 'banner-button', hidden: true, onclick: actions.allowSound }, 'Click to hear the others');
  const problem = h('div', { class: 'toast', role: 'alert', hidden: true });
  const pictures = grid(findVideo);
  const talk = chat(actions);
  const bar = controls(actions);
  const element = h('main', { class: 'call' },
    h('header', { class: 'top' }, room, count, banner, sound),
    h('div', { class: 'body' }, pictures.element, talk.element), problem, bar.element);

  return {
    element,
    update(state) {
      const people = state.tiles.filter((tile) => !tile.isScreen).length;
      setText(room, state.form.room || 'Call');
      setText(count, people === 1 ? 'only you are here' : `${people} people`);
      setText(banner, state.isReconnecting ? 'Connection lost, reconnecting…' : '');
      element.classList.toggle('reconnecting', state.isReconnecting);
      sound.hidden = !state.isSoundBlocked;
      problem.hidden = state.problem === null;
      if (state.problem) {
        const dismiss = h('button', { type: 'button', class: 'plain', 'aria-label': 'Dismiss', onclick: actions.dismissProblem }, icon('close'));
        problem.replaceChildren(icon('warning'), h('span', {}, state.problem.text, ' ', h('code', {}, state.problem.code)), dismiss);
      }
      pictures.update(state.tiles);
      talk.update(state.chat);
      bar.update(state);
    },
  };
}
