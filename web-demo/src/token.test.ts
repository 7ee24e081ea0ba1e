import { afterEach, describe, expect, it, vi } from 'vitest';
import { requestTicket } from './token.ts';

const signal = new AbortController().signal;
const answer = (status: number, body: unknown) => vi.fn(async () => new Response(JSON.stringify(body), { status }));

afterEach(() => vi.unstubAllGlobals());

describe('the ticket', () => {
  it('is asked for at the page’s own origin', async () => {
    const fetch = answer(200, { token: 'jwt' });
    vi.stubGlobal('fetch', fetch);
    expect(await requestTicket(new URL('http://127.0.0.1:7880/?room=x'), 'standup', 'Ada', signal)).toEqual({ url: 'ws://127.0.0.1:7880', token: 'jwt' });
    const [url, init] = fetch.mock.calls[0] as unknown as [URL, RequestInit];
    expect(url.href).toBe('http://127.0.0.1:7880/demo/token');
    expect(JSON.parse(String(init.body))).toEqual({ room: 'standup', name: 'Ada' });
  });

  it('of a page over TLS leads to a secure socket', async () => {
    vi.stubGlobal('fetch', answer(200, { token: 'jwt' }));
    expect((await requestTicket(new URL('https://meet.example/'), 'r', 'n', signal)).url).toBe('wss://meet.example');
  });

  it('in the address is used without asking', async () => {
    const fetch = answer(500, {});
    vi.stubGlobal('fetch', fetch);
    const ticket = await requestTicket(new URL('http://localhost/?url=wss://sfu.example&token=abc'), '', '', signal);
    expect(ticket).toEqual({ url: 'wss://sfu.example', token: 'abc' });
    expect(fetch).not.toHaveBeenCalled();
  });

  it('of this server is never for another, whatever the address or the answer say', async () => {
    vi.stubGlobal('fetch', answer(200, { token: 'jwt', url: 'wss://evil.example' }));
    const address = new URL('http://localhost/?url=wss://evil.example');
    expect(await requestTicket(address, 'r', 'n', signal)).toEqual({ url: 'ws://localhost', token: 'jwt' });
  });

  it('in the address without a server is for this one', async () => {
    const ticket = await requestTicket(new URL('http://localhost/?token=abc'), '', '', signal);
    expect(ticket).toEqual({ url: 'ws://localhost', token: 'abc' });
  });

  it('is refused with the server’s code', async () => {
    vi.stubGlobal('fetch', answer(429, { code: 'token-rate', detail: 'Wait.' }));
    await expect(requestTicket(new URL('http://localhost/'), 'r', 'n', signal)).rejects.toMatchObject({ problem: { code: 'token-rate', text: 'Wait.' } });
  });
});
