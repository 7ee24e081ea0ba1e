// Where the access token comes from: the page's own address, or the server's demo endpoint.

import { RefusedError } from './problem.ts';

export interface Ticket {
  /** Address of the signaling server, ws: or wss:. */
  url: string;
  token: string;
}

/**
 * `?token=…` in the page's address is a ready token, and `&url=…` beside it the server that it is for. Without a token
 * there is no other server: a link could send a token of this one, and the camera, to anybody.
 */
export function ticketFromAddress(address: URL): Ticket | null {
  const token = address.searchParams.get('token');
  return token ? { url: address.searchParams.get('url') || signalingUrl(address), token } : null;
}

/** Asks the server of this page for a token, unless the address has one. */
export async function requestTicket(address: URL, room: string, name: string, signal: AbortSignal): Promise<Ticket> {
  const given = ticketFromAddress(address);
  if (given) return given;
  const response = await fetch(new URL('/demo/token', address), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ room, name }),
    signal,
  });
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw RefusedError.from(response.status, body);
  const { token } = (body ?? {}) as { token?: unknown };
  if (typeof token !== 'string') throw RefusedError.from(response.status, { detail: 'The server sent no token.' });
  return { url: signalingUrl(address), token };
}

/** The page and the signaling live at the same origin. */
export function signalingUrl(address: URL): string {
  return `${address.protocol === 'https:' ? 'wss' : 'ws'}://${address.host}`;
}
