// All tiles: equal ones in a grid, or a shared screen with the others beside it.

import { columnsFor, tileWidthPx } from '../layout.ts';
import type { Tile } from '../state.ts';
import { h, type View } from './dom.ts';
import { tileView, type FindVideo, type TileView } from './tile.ts';

const GAP_PX = 12;

export function grid(findVideo: FindVideo): View<Tile[]> {
  const stage = h('ul', { class: 'stage', 'aria-label': 'Shared screens' });
  const people = h('ul', { class: 'people', 'aria-label': 'Participants' });
  const element = h('div', { class: 'grid' }, stage, people);
  const views = new Map<string, TileView>();

  const arrange = (): void => {
    const count = people.childElementCount;
    const box = { widthPx: people.clientWidth, heightPx: people.clientHeight };
    const columns = columnsFor(count, box, GAP_PX);
    const widthPx = tileWidthPx(count, columns, box, GAP_PX);
    // Padding leaves room for just these columns; an incomplete last row stands in the middle.
    const sidePx = Math.floor((box.widthPx - columns * (widthPx + GAP_PX) + GAP_PX) / 2);
    people.style.setProperty('--tile-width', `${widthPx}px`);
    people.style.setProperty('--side', `${Math.max(0, sidePx)}px`);
  };
  new ResizeObserver(arrange).observe(people);

  return {
    element,
    update(tiles) {
      const keys = new Set(tiles.map((tile) => tile.key));
      for (const [key, view] of views) {
        if (keys.has(key)) continue;
        view.close();
        views.delete(key);
      }
      for (const tile of tiles) {
        let view = views.get(tile.key);
        if (!view) {
          view = tileView(findVideo);
          views.set(tile.key, view);
          (tile.isScreen ? stage : people).append(view.element);
        }
        view.update(tile);
      }
      // The own tile stays last without moving the others, which would restart their pictures.
      const own = tiles.find((tile) => tile.isLocal && !tile.isScreen);
      const ownElement = own ? views.get(own.key)?.element : undefined;
      if (ownElement && people.lastElementChild !== ownElement) people.append(ownElement);
      element.classList.toggle('presenting', tiles.some((tile) => tile.isScreen));
      arrange();
    },
  };
}
