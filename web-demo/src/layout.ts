// How many columns give the largest tiles.

export interface Box {
  widthPx: number;
  heightPx: number;
}

const ASPECT = 16 / 9;

/** Columns for `count` equal 16:9 tiles in a box with `gapPx` between them, at least one. */
export function columnsFor(count: number, box: Box, gapPx: number): number {
  let best = { columns: 1, widthPx: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns += 1) {
    const rows = Math.ceil(count / columns);
    const byWidth = (box.widthPx - gapPx * (columns - 1)) / columns;
    const byHeight = ((box.heightPx - gapPx * (rows - 1)) / rows) * ASPECT;
    const widthPx = Math.min(byWidth, byHeight);
    if (widthPx > best.widthPx) best = { columns, widthPx };
  }
  return best.columns;
}

/** Width of one tile for that many columns. */
export function tileWidthPx(count: number, columns: number, box: Box, gapPx: number): number {
  const rows = Math.max(1, Math.ceil(count / columns));
  const byWidth = (box.widthPx - gapPx * (columns - 1)) / columns;
  const byHeight = ((box.heightPx - gapPx * (rows - 1)) / rows) * ASPECT;
  return Math.max(0, Math.floor(Math.min(byWidth, byHeight)));
}
