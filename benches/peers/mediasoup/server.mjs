// The least server that makes mediasoup an SFU with rooms: one worker, one router per room, JSON over a WebSocket.
//
// benches/load/src/adapters/mediasoup.rs is its client. What is measured is the worker's work; this process is idle while media flows.
// Usage: node server.mjs SIGNALING_PORT MEDIA_PORT, with MEDIASOUP_WORKER_BIN naming the worker.

import * as mediasoup from 'mediasoup';
import { WebSocketServer } from 'ws';

const [signalingPort, mediaPort] = process.argv.slice(2).map(Number);
const BUFFER_BYTES = 8 * 1024 * 1024; // as Sluice asks for
const BITRATE = 100_000_000; // what a subscriber is believed to take from the start, so that no layer is held back

const FEEDBACK = [
  { type: 'nack' }, { type: 'nack', parameter: 'pli' }, { type: 'ccm', parameter: 'fir' }, { type: 'transport-cc' },
];
const mediaCodecs = [
  { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2, rtcpFeedback: [{ type: 'transport-cc' }] },
  { kind: 'video', mimeType: 'video/VP8', clockRate: 90000, rtcpFeedback: FEEDBACK },
  {
    kind: 'video', mimeType: 'video/H264', clockRate: 90000, rtcpFeedback: FEEDBACK,
    parameters: { 'packetization-mode': 1, 'profile-level-id': '42e01f', 'level-asymmetry-allowed': 1 },
  },
];

const worker = await mediasoup.createWorker({ logLevel: 'error' });
worker.on('died', () => process.exit(1));
const listenInfo = { protocol: 'udp', ip: '127.0.0.1', port: mediaPort, sendBufferSize: BUFFER_BYTES, recvBufferSize: BUFFER_BYTES };
const webRtcServer = await worker.createWebRtcServer({ listenInfos: [listenInfo] });

const rooms = new Map(); // name -> Promise of { router, participants }
function room(name) {
  if (!rooms.has(name)) {
    rooms.set(name, worker.createRouter({ mediaCodecs }).then((router) => ({ router, participants: new Set() })));
  }
  return rooms.get(name);
}

// What a client that does not read its media has negotiated: no congestion control.
function withoutFeedback(capabilities) {
  const isAboutBandwidth = (text) => /transport-cc|transport-wide-cc|goog-remb|abs-send-time/.test(text);
  return {
    codecs: capabilities.codecs.map((codec) => ({ ...codec, rtcpFeedback: codec.rtcpFeedback.filter(({ type }) => !isAboutBandwidth(type)) })),
    headerExtensions: capabilities.headerExtensions.filter(({ uri }) => !isAboutBandwidth(uri)),
  };
}

class Participant {
  constructor(socket) {
    this.socket = socket;
    this.transports = new Map();
    this.producers = [];
    this.watches = false;
  }

  async join({ room: name }) {
    this.room = await room(name);
    this.room.participants.add(this);
    return {};
  }

  async transport() {
    const transport = await this.room.router.createWebRtcTransport({ webRtcServer, initialAvailableOutgoingBitrate: BITRATE });
    this.transports.set(transport.id, transport);
    const { value } = transport.dtlsParameters.fingerprints.find(({ algorithm }) => algorithm === 'sha-256');
    const candidates = transport.iceCandidates.map(({ ip, address, port }) => ({ ip: address ?? ip, port }));
    return { id: transport.id, ice: transport.iceParameters, candidates, fingerprint: value };
  }

  async connect({ transport, fingerprint }) {
    const dtlsParameters = { role: 'client', fingerprints: [{ algorithm: 'sha-256', value: fingerprint }] };
    await this.transports.get(transport).connect({ dtlsParameters });
    return {};
  }

  async produce({ transport, kind, rtpParameters }) {
    const producer = await this.transports.get(transport).produce({ kind, rtpParameters });
    this.producers.push(producer);
    for (const other of this.room.participants) {
      if (other !== this && other.watches) other.announce(producer);
    }
    return { id: producer.id };
  }

  async watch() {
    this.watches = true;
    for (const other of this.room.participants) {
      if (other !== this) other.producers.forEach((producer) => this.announce(producer));
    }
    return {};
  }

  async consume({ transport, producer, feedback, spatialLayer }) {
    const capabilities = this.room.router.rtpCapabilities;
    const rtpCapabilities = feedback ? capabilities : withoutFeedback(capabilities);
    const consumer = await this.transports.get(transport).consume({ producerId: producer, rtpCapabilities });
    if (consumer.type === 'simulcast') await consumer.setPreferredLayers({ spatialLayer });
    return { id: consumer.id, rtpParameters: consumer.rtpParameters };
  }

  announce(producer) {
    this.say({ producer: producer.id });
  }

  say(message) {
    this.socket.send(JSON.stringify(message));
  }

  leave() {
    this.room?.participants.delete(this);
    this.transports.forEach((transport) => transport.close());
  }
}

const METHODS = new Set(['join', 'transport', 'connect', 'produce', 'watch', 'consume']);
const server = new WebSocketServer({ host: '127.0.0.1', port: signalingPort });
server.on('connection', (socket) => {
  const participant = new Participant(socket);
  socket.on('message', async (text) => {
    const { id, method, arguments: args } = JSON.parse(text);
    try {
      if (!METHODS.has(method)) throw new Error(`no method ${method}`);
      participant.say({ id, result: await participant[method](args) });
    } catch (error) {
      participant.say({ id, error: String(error) });
    }
  });
  socket.on('close', () => participant.leave());
});
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { worker.close(); process.exit(0); });
