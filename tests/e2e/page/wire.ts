// Watches and disturbs what the page puts on the wire. Imported before `livekit-client`, whose sockets it wraps.

/** Every WebSocket that the page opened, newest last. */
export const sockets: WebSocket[] = [];
/** Every peer connection that the page opened. */
export const connections: RTCPeerConnection[] = [];

/** Nobody listens there: a socket to it fails at once. */
const NOWHERE = 'ws://127.0.0.1:1/';

let refused: string[] = [];
let flipFingerprints = false;
let isOffline = false;

/** From now on the certificate fingerprint in outgoing messages is wrong in its last digits. */
export function sendWrongFingerprints(): void {
  flipFingerprints = true;
}

/** From now on the page says that it can't receive codecs of these names, as in `a=rtpmap`. */
export function refuseCodecs(names: string[]): void {
  refused = names.map((name) => name.toLowerCase());
}

/** Cuts all sockets and lets none connect until the page is online again. */
export function setOffline(wanted: boolean): void {
  isOffline = wanted;
  if (wanted) sockets.forEach((socket) => socket.close());
}

class WatchedWebSocket extends WebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(isOffline ? NOWHERE : url, protocols);
    sockets.push(this);
  }

  override send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void {
    super.send(flipFingerprints && data instanceof ArrayBuffer ? withWrongFingerprint(data) : (data as string));
  }
}

class WatchedPeerConnection extends RTCPeerConnection {
  constructor(configuration?: RTCConfiguration) {
    super(configuration);
    connections.push(this);
    // On the object, since the methods have overloads with callbacks that nobody uses.
    const [createOffer, createAnswer] = [this.createOffer.bind(this), this.createAnswer.bind(this)];
    const offer = async (options?: RTCOfferOptions) => without(await createOffer(options), 'a=recvonly');
    const answer = async (options?: RTCAnswerOptions) => without(await createAnswer(options), 'a=');
    this.createOffer = offer as RTCPeerConnection['createOffer'];
    this.createAnswer = answer as RTCPeerConnection['createAnswer'];
  }
}

window.WebSocket = WatchedWebSocket;
window.RTCPeerConnection = WatchedPeerConnection;

/** Replaces the fingerprint's digits by others of the same length, so the protobuf around them stays valid. */
function withWrongFingerprint(message: ArrayBuffer): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(message.slice(0));
  const text = new TextDecoder('latin1').decode(copy);
  for (const match of text.matchAll(/a=fingerprint:sha-256 ([0-9A-F:]+)/g)) {
    const end = match.index + match[0].length;
    for (const at of [end - 1, end - 2]) copy[at] = copy[at] === 0x30 ? 0x31 : 0x30;
  }
  return copy;
}

/** Takes the refused codecs, and what repairs them, out of the m-lines that have such a line. */
function without(description: RTCSessionDescriptionInit, where: string): RTCSessionDescriptionInit {
  if (refused.length === 0 || !description.sdp) return description;
  const sections = description.sdp.split(/(?=^m=)/m);
  return { type: description.type, sdp: sections.map((section) => (section.startsWith('m=') && section.includes(`\r\n${where}`) ? trimmed(section) : section)).join('') };
}

function trimmed(section: string): string {
  const named = [...section.matchAll(/^a=rtpmap:(\d+) ([^/\r]+)/gm)].map(([, type = '', name = '']) => ({ type, name: name.toLowerCase() }));
  const gone = new Set(named.filter(({ name }) => refused.includes(name)).map(({ type }) => type));
  for (const [, type = '', of = ''] of section.matchAll(/^a=fmtp:(\d+) (?:apt=)?(\d+)/gm)) {
    const isAbout = named.some((codec) => codec.type === type && ['rtx', 'red'].includes(codec.name));
    if (isAbout && gone.has(of)) gone.add(type);
  }
  const lines = section.split('\r\n').filter((line) => !gone.has(/^a=(?:rtpmap|fmtp|rtcp-fb):(\d+)/.exec(line)?.[1] ?? ''));
  const [head = '', ...rest] = lines;
  const kept = head.split(' ').filter((word, index) => index < 3 || !gone.has(word));
  // An m-line has to name some format.
  if (kept.length === 3) return [head.replace(/^(m=\S+) \d+/, '$1 0'), ...section.split('\r\n').slice(1)].join('\r\n');
  return [kept.join(' '), ...rest].join('\r\n');
}
