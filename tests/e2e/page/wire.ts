// Watches and disturbs what the page puts on the wire. Imported before `livekit-client`, whose sockets it wraps.

/** Every WebSocket that the page opened, newest last. */
export const sockets: WebSocket[] = [];
/** Every peer connection that the page opened. */
export const connections: RTCPeerConnection[] = [];

/** Nobody listens there: a socket to it fails at once. */
const NOWHERE = 'ws://127.0.0.1:1/';

let flipFingerprints = false;
let isOffline = false;

/** From now on the certificate fingerprint in outgoing messages is wrong in its last digits. */
export function sendWrongFingerprints(): void {
  flipFingerprints = true;
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
