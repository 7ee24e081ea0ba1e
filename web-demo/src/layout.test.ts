import { describe, expect, it } from 'vitest';
import { columnsFor, tileWidthPx, type Box } from './layout.ts';

const WIDE: Box = { widthPx: 1600, heightPx: 900 };
const TALL: Box = { widthPx: 400, heightPx: 800 };
const GAP_PX = 12;

describe('the grid', () => {
  it.each([[1, 1], [2, 2], [3, 2], [4, 2], [5, 3], [9, 3], [10, 4], [16, 4]])('%i tiles of a wide box stand in %i columns', (count, columns) => {
    expect(columnsFor(count, WIDE, GAP_PX)).toBe(columns);
  });

  it('a tall box stacks two tiles', () => {
    expect(columnsFor(2, TALL, GAP_PX)).toBe(1);
  });

  it('all tiles fit', () => {
    for (const box of [WIDE, TALL]) {
      for (let count = 1; count <= 30; count += 1) {
        const columns = columnsFor(count, box, GAP_PX);
        const width = tileWidthPx(count, columns, box, GAP_PX);
        const rows = Math.ceil(count / columns);
        expect(columns * width + (columns - 1) * GAP_PX).toBeLessThanOrEqual(box.widthPx);
        expect((rows * width * 9) / 16 + (rows - 1) * GAP_PX).toBeLessThanOrEqual(box.heightPx + 1);
      }
    }
  });

  it('a box without a size has no negative tiles', () => {
    expect(tileWidthPx(3, columnsFor(3, { widthPx: 0, heightPx: 0 }, GAP_PX), { widthPx: 0, heightPx: 0 }, GAP_PX)).toBe(0);
  });
});
