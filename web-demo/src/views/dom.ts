// The little that the views need to make elements.

/** A part of the page that follows the state. */
export interface View<S> {
  readonly element: HTMLElement;
  update(state: S): void;
}

type Attributes = Record<string, string | boolean | ((event: Event) => void)>;

/** Makes an element: `on…` attributes are listeners, `true` is an empty attribute, `false` is none. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: (Node | string)[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (typeof value === 'string') element.setAttribute(name, value);
    else element.toggleAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets text only when it changed, so that screen readers are not told twice. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
