// The bar at the bottom: microphone, camera, screen, chat, leave.

import type { Device, State } from '../state.ts';
import { h, type View } from './dom.ts';
import { icon, type Icon } from './icons.ts';

export interface ControlActions {
  toggle(device: Device): void;
  toggleChat(): void;
  copyLink(): Promise<void>;
  leave(): void;
}

export function controls(actions: ControlActions): View<State> {
  const devices: [Device, HTMLButtonElement][] = [
    ['microphone', button('microphone', () => actions.toggle('microphone'))],
    ['camera', button('camera', () => actions.toggle('camera'))],
    ['screen', button('screen', () => actions.toggle('screen'))],
  ];
  const chat = button('chat', actions.toggleChat);
  const unread = h('span', { class: 'unread', hidden: true });
  chat.append(unread);
  const link = button('link', () => void copy());
  const leave = button('leave', actions.leave);
  leave.classList.add('danger');
  name(link, 'Copy the address of this room');
  name(leave, 'Leave the call');
  const copy = async (): Promise<void> => {
    await actions.copyLink();
    link.classList.add('done');
    link.addEventListener('pointerleave', () => link.classList.remove('done'), { once: true });
  };
  const element = h('nav', { class: 'controls', 'aria-label': 'Call' }, ...devices.map(([, each]) => each), h('span', { class: 'divider' }), chat, link, leave);

  return {
    element,
    update(state) {
      const isOn: Record<Device, boolean> = { microphone: state.me.isMicrophoneOn, camera: state.me.isCameraOn, screen: state.me.isScreenOn };
      for (const [device, each] of devices) {
        each.disabled = state.busy.includes(device);
        each.classList.toggle('off', device !== 'screen' && !isOn[device]);
        each.classList.toggle('active', device === 'screen' && isOn[device]);
        setIcon(each, drawing(device, isOn[device]));
        name(each, label(device, isOn[device]));
      }
      chat.setAttribute('aria-expanded', String(state.chat.isOpen));
      chat.classList.toggle('active', state.chat.isOpen);
      name(chat, state.chat.unread > 0 ? `Chat, ${state.chat.unread} unread` : 'Chat');
      unread.hidden = state.chat.unread === 0;
      unread.textContent = state.chat.unread > 9 ? '9+' : String(state.chat.unread);
    },
  };
}

/** Single letters work while no text field has the focus. */
export function shortcut(event: KeyboardEvent): Device | 'chat' | null {
  const isTyping = event.target instanceof HTMLElement && event.target.matches('input, textarea, [contenteditable]');
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return null;
  return ({ m: 'microphone', v: 'camera', s: 'screen', c: 'chat' } as const)[event.key.toLowerCase()] ?? null;
}

function label(device: Device, isOn: boolean): string {
  const words: Record<Device, [string, string]> = {
    microphone: ['Turn the microphone off (M)', 'Turn the microphone on (M)'],
    camera: ['Turn the camera off (V)', 'Turn the camera on (V)'],
    screen: ['Stop sharing the screen (S)', 'Share the screen (S)'],
  };
  return words[device][isOn ? 0 : 1];
}

function drawing(device: Device, isOn: boolean): Icon {
  if (device === 'screen') return isOn ? 'screen-off' : 'screen';
  return isOn ? device : `${device}-off`;
}

function button(drawn: Icon, act: () => void): HTMLButtonElement {
  return h('button', { type: 'button', class: 'control', 'data-icon': drawn, onclick: act }, icon(drawn));
}

function name(element: HTMLButtonElement, text: string): void {
  if (element.title === text) return;
  element.title = text;
  element.setAttribute('aria-label', text);
}

function setIcon(element: HTMLButtonElement, drawn: Icon): void {
  if (element.dataset.icon === drawn) return;
  element.dataset.icon = drawn;
  element.querySelector('svg')?.replaceWith(icon(drawn));
}
