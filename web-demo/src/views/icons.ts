// Line icons on a 24 x 24 grid, drawn for this page.

const PATHS = {
  microphone: '<rect x="9" y="3" width="6" height="11" rx="3"/><path d="M5 11a7 7 0 0 0 14 0M12 18v3"/>',
  'microphone-off': '<path d="M9 9v2a3 3 0 0 0 5 2.2M15 10V6a3 3 0 0 0-5.8-1M5 11a7 7 0 0 0 11.6 5.3M19 11a7 7 0 0 1-.7 3M12 18v3M4 3l16 18"/>',
  camera: '<rect x="3" y="6" width="12" height="12" rx="3"/><path d="m15 11 6-3.5v9L15 13"/>',
  'camera-off': '<path d="M11 6h1a3 3 0 0 1 3 3v2l6-3.5v9l-3-1.7M14.6 16.5A3 3 0 0 1 12 18H6a3 3 0 0 1-3-3V9a3 3 0 0 1 2.6-3M4 3l16 18"/>',
  screen: '<rect x="3" y="4" width="18" height="12" rx="2"/><path d="M8 20h8M12 13V8m-2.5 2L12 7.5l2.5 2.5"/>',
  'screen-off': '<rect x="3" y="4" width="18" height="12" rx="2"/><path d="M8 20h8m-6-8 4-4m0 4-4-4"/>',
  chat: '<path d="M5 4h14a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2h-8l-5 4v-4H5a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2Z"/>',
  leave: '<path d="M3.5 15.5c-1-4 3.5-7 8.500-7s9.500 3 8.500 7l-4.500-1v-2.500a11 11 0 0 0-8 0v2.500Z"/>',
  link: '<path d="M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.700-5.700L12 7M14 10a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 5.700 5.700L12 17"/>',
  send: '<path d="M4 12 20 4l-5 16-3.500-6.500L4 12Z"/>',
  close: '<path d="m6 6 12 12M18 6 6 18"/>',
  signal: '<path d="M5 20v-4"/><path d="M12 20v-9"/><path d="M19 20V5"/>',
  warning: '<path d="M12 4 2.500 20h19L12 4ZM12 10v4.500M12 17.300v.2"/>',
} as const;

export type Icon = keyof typeof PATHS;

/** A decorative icon; the element around it carries the label. */
export function icon(name: Icon): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('icon');
  svg.innerHTML = PATHS[name];
  return svg;
}
