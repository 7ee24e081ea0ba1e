// One picture with its caption.

import type { Track } from 'livekit-client';
import type { Quality, Tile } from '../state.ts';
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
  const signal = badge('signal', '');
  const element = h('li', { class: 'tile' }, video, initial, h('div', { class: 'caption' }, muted, name, signal));
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
      signal.hidden = tile.quality === null;
      signal.dataset.quality = tile.quality ?? '';
      signal.title = tile.quality === null ? '' : QUALITY_TEXTS[tile.quality];
      element.setAttribute('aria-label', describe(tile));
      show(tile.videoSid);
    },
    close() {
      show(null);
      element.remove();
    },
  };
}

const QUALITY_TEXTS: Record<Quality, string> = {
  excellent: 'Excellent connection',
  good: 'Good connection',
  poor: 'Weak connection',
  lost: 'Connection lost',
};

/** The same name has the same colour everywhere. */
export function hueOf(name: string): number {
  return [...name].reduce((hue, letter) => (hue * 31 + (letter.codePointAt(0) ?? 0)) % 360, 7);
}

function describe(tile: Tile): string {
  const facts = [tile.name];
  if (tile.isMuted) facts.push('microphone off');
  if (!tile.videoSid) facts.push('camera off');
  if (tile.isSpeaking) facts.push('speaking');
  if (tile.quality === 'poor' || tile.quality === 'lost') facts.push(QUALITY_TEXTS[tile.quality].toLowerCase());
  return facts.join(', ');
}

function badge(name: 'microphone-off' | 'signal', title: string): HTMLElement {
  return h('span', { class: `badge ${name}`, title, hidden: true }, icon(name));
}
