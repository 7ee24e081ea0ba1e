// One picture with its caption.

import type { Track } from 'livekit-client';
import type { Tile } from '../state.ts';
import { h, setText, type View } from './dom.ts';
import { icon } from './icons.ts';

/** Finds the track of a tile; the tile attaches and detaches it. */
export type FindVideo = (videoSid: string) => Track | null;

export interface TileView extends View<Tile> {
  /** Lets go of the picture. */
  close(): void;
}

export function tileView(findVideo: FindVideo): TileView {
  const video = h('video', { playsinline: true, autoplay: true, muted: true, hidden: true });
  video.muted = true;
  const initial = h('span', { class: 'initial', 'aria-hidden': 'true' });
  const name = h('span', { class: 'name' });
  const muted = badge('microphone-off', 'Microphone off');
  const weak = badge('warning', 'Weak connection');
  const element = h('li', { class: 'tile' }, video, initial, h('div', { class: 'caption' }, muted, name, weak));
  let shown: { sid: string; track: Track } | null = null;

  const show = (videoSid: string | null): void => {
    if (shown?.sid === videoSid) return;
    shown?.track.detach(video);
    const track = videoSid === null ? null : findVideo(videoSid);
    shown = track && videoSid !== null ? { sid: videoSid, track } : null;
    shown?.track.attach(video);
    video.hidden = shown === null;
    initial.hidden = shown !== null;
  };

  return {
    element,
    update(tile) {
      element.classList.toggle('speaking', tile.isSpeaking);
      element.classList.toggle('screen', tile.isScreen);
      element.classList.toggle('mirrored', tile.isLocal && !tile.isScreen);
      element.dataset.name = tile.name;
      setText(name, tile.isLocal && !tile.isScreen ? `${tile.name} (you)` : tile.name);
      setText(initial, tile.name.slice(0, 1).toUpperCase());
      initial.style.setProperty('--hue', String(hueOf(tile.name)));
      muted.hidden = !tile.isMuted;
      weak.hidden = tile.quality === 'good';
      weak.title = tile.quality === 'lost' ? 'Connection lost' : 'Weak connection';
      element.setAttribute('aria-label', describe(tile));
      show(tile.videoSid);
    },
    close() {
      show(null);
      element.remove();
    },
  };
}

/** The same name has the same colour everywhere. */
export function hueOf(name: string): number {
  return [...name].reduce((hue, letter) => (hue * 31 + (letter.codePointAt(0) ?? 0)) % 360, 7);
}

function describe(tile: Tile): string {
  const facts = [tile.name];
  if (tile.isMuted) facts.push('microphone off');
  if (!tile.videoSid) facts.push('camera off');
  if (tile.isSpeaking) facts.push('speaking');
  return facts.join(', ');
}

function badge(name: 'microphone-off' | 'warning', title: string): HTMLElement {
  return h('span', { class: `badge ${name}`, title, hidden: true }, icon(name));
}
