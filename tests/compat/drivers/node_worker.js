// Participants on the Node SDK for the suite: the methods of `window.lab` that this SDK has.
//
// In: messages `{ id, who, method, args }` from the parent process; `who` names a participant of this process.
// Out: `{ id, result }` or `{ id, error }`.

import {
  AudioFrame, AudioSource, AudioStream, ConnectionQuality, ConnectionState, LocalAudioTrack, LocalVideoTrack, Room, RoomEvent, RpcError,
  SimulateScenarioKind, TrackKind, TrackPublishOptions, TrackSource, VideoBufferType, VideoCodec, VideoFrame, VideoSource, VideoStream, dispose,
} from '@livekit/rtc-node';
import { pattern, seedOf } from '../../e2e/lib/pattern.js';
import { paint, read } from '../../e2e/lib/picture.js';
import { until } from '../../e2e/lib/wait.js';
import { strongestTone } from './tone.js';

const SAMPLE_RATE_HZ = 48_000;
const CHUNK_SAMPLES = SAMPLE_RATE_HZ / 100;
const HEARD_SAMPLES = SAMPLE_RATE_HZ / 10;
/** A muted or ending track shows black frames of two pixels. */
const SMALLEST_WIDTH = 64;
/** @type {Record<string, VideoCodec>} */
const CODECS = { vp8: VideoCodec.VP8, vp9: VideoCodec.VP9, h264: VideoCodec.H264, av1: VideoCodec.AV1 };
/** @type {Record<string, TrackSource>} */
const SOURCES = { camera: TrackSource.SOURCE_CAMERA, microphone: TrackSource.SOURCE_MICROPHONE, screen_share: TrackSource.SOURCE_SCREENSHARE };
/** @type {Record<string, SimulateScenarioKind>} */
const SCENARIOS = {
  'signal-reconnect': SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT,
  'full-reconnect': SimulateScenarioKind.SIMULATE_FULL_RECONNECT,
};

/** @typedef {import('../../e2e/page/full.ts').Arrived} Arrived */

/** One participant; each method is called by its name in the page. */
class Lab {
  #room = new Room();
  /** @type {Map<string, import('@livekit/rtc-node').LocalTrackPublication>} */
  #published = new Map();
  /** @type {Set<ReturnType<typeof setInterval>>} */
  #clocks = new Set();
  /** @type {Map<string, ReturnType<typeof emptyReport>>} */
  #pictures = new Map();
  /** @type {Map<string, Float32Array>} */
  #sounds = new Map();
  /** @type {{ from: string, text: string, topic: string }[]} */
  #messages = [];
  /** @type {Arrived[]} */
  #arrived = [];
  /** @type {{ name: string, atMs: number, detail: unknown[] }[]} */
  #events = [];
  /** @type {Set<string>} */
  #spoke = new Set();
  /** @type {string[]} */
  #speaking = [];
  /** @type {Map<string, string>} */
  #qualities = new Map();
  #isOver = false;

  /** @param {any} request */
  async join({ url, token, autoSubscribe = true, passphrase }) {
    this.#listen(this.#room);
    /** @type {import('@livekit/rtc-node').RoomOptions} */
    const options = { autoSubscribe, dynacast: false };
    if (passphrase !== undefined) options.encryption = { keyProviderOptions: { sharedKey: new TextEncoder().encode(passphrase) } };
    try {
      await this.#room.connect(url, token, options);
    } catch (error) {
      return { ok: false, reason: '', status: 0, message: String(error) };
    }
    return { ok: true, sid: await this.#room.getSid(), identity: this.#me.identity, tookMs: 0 };
  }

  async leave() {
    this.#isOver = true;
    this.#clocks.forEach((clock) => clearInterval(clock));
    await this.#room.disconnect();
  }

  // ---- publishing -------------------------------------------------------------------------------------------------

  /** @param {any} request */
  async publishPicture({ id, width = 320, height = 180, fps = 15, options = {} }) {
    const source = new VideoSource(width, height);
    const track = LocalVideoTrack.createVideoTrack('picture', source);
    let number = 0;
    this.#clocks.add(setInterval(() => {
      const i420 = paint(new Uint8Array((width * height * 3) / 2), width, height, id, number % 0x10000);
      number += 1;
      source.captureFrame(new VideoFrame(i420, width, height, VideoBufferType.I420));
    }, 1000 / fps));
    const publication = await this.#me.publishTrack(track, new TrackPublishOptions({
      source: TrackSource.SOURCE_CAMERA,
      videoCodec: CODECS[options.videoCodec ?? 'vp8'],
      simulcast: options.simulcast ?? false,
      videoEncoding: { maxBitrate: 600_000n, maxFramerate: fps },
    }));
    this.#published.set('camera', publication);
    return publication.sid;
  }

  /** @param {any} request */
  async refusedPublish(request) {
    return this.publishPicture(request).then(() => '', (error) => String(error.message ?? error));
  }

  /** @param {number} frequencyHz @param {{ red?: boolean }} [options] */
  async publishTone(frequencyHz, { red } = {}) {
    const source = new AudioSource(SAMPLE_RATE_HZ, 1, 200);
    const track = LocalAudioTrack.createAudioTrack('tone', source);
    this.#play(source, frequencyHz);
    const publication = await this.#me.publishTrack(track, new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE, red }));
    this.#published.set('microphone', publication);
    return publication.sid;
  }

  /** @param {string} source */
  async unpublish(source) {
    const sid = this.#published.get(source)?.sid;
    if (!sid) throw new Error(`${source} is not published`);
    this.#published.delete(source);
    await this.#me.unpublishTrack(sid);
  }

  /** @param {{ name?: string, metadata?: string, attributes?: Record<string, string> }} wanted */
  async describe({ name, metadata, attributes }) {
    // Each request of this SDK repeats the rest of the profile as it knows it; see python_worker.py.
    if (name !== undefined) {
      await this.#me.updateName(name);
      await until('its own name is known', () => this.#me.name, (known) => known === name);
    }
    if (metadata !== undefined) {
      await this.#me.updateMetadata(metadata);
      await until('its own metadata is known', () => this.#me.metadata, (known) => known === metadata);
    }
    if (attributes !== undefined) await this.#me.setAttributes(attributes);
  }

  // ---- data, RPC, streams -----------------------------------------------------------------------------------------

  /** @param {string} text @param {{ reliable: boolean, topic?: string, destinationIdentities?: string[] }} options */
  async send(text, { reliable, topic, destinationIdentities }) {
    await this.#me.publishData(new TextEncoder().encode(text), { reliable, topic, destination_identities: destinationIdentities });
  }

  messages() {
    return this.#messages;
  }

  /** @param {string} method */
  serveRpc(method) {
    this.#me.registerRpcMethod(method, async ({ callerIdentity, payload }) => {
      if (payload === 'fail') throw new Error('failed as asked');
      return `${this.#me.identity} heard ${callerIdentity}: ${payload}`;
    });
  }

  /** @param {string} destinationIdentity @param {string} method @param {string} payload */
  async callRpc(destinationIdentity, method, payload) {
    try {
      return { answer: await this.#me.performRpc({ destinationIdentity, method, payload }) };
    } catch (error) {
      if (error instanceof RpcError) return { code: Number(error.code) };
      throw error;
    }
  }

  /** @param {string} topic */
  takeStreams(topic) {
    this.#room.registerTextStreamHandler(topic, async (reader, { identity }) => {
      const text = await reader.readAll();
      this.#arrived.push({ from: identity, topic, text, attributes: { ...reader.info.attributes } });
    });
    this.#room.registerByteStreamHandler(topic, async (reader, { identity }) => {
      const bytes = Uint8Array.from(Buffer.concat(await reader.readAll()));
      this.#arrived.push({ from: identity, topic, attributes: { ...reader.info.attributes }, name: reader.info.name, size: bytes.length, seed: seedOf(bytes) });
    });
  }

  /** @param {string} topic @param {string} text @param {Record<string, string>} [attributes] */
  async sendText(topic, text, attributes = {}) {
    await this.#me.sendText(text, { topic, attributes });
  }

  /** @param {string} topic @param {string} name @param {number} size @param {number} seed */
  async sendBytes(topic, name, size, seed) {
    const writer = await this.#me.streamBytes({ topic, name, totalSize: size });
    await writer.write(pattern(size, seed));
    await writer.close();
  }

  arrived() {
    return this.#arrived;
  }

  /** @param {string} identity @param {string} trackSid @param {string} text */
  async publishTranscription(identity, trackSid, text) {
    await this.#me.publishTranscription({
      participantIdentity: identity,
      trackSid,
      segments: [{ id: 'segment', text, startTime: 0n, endTime: 100n, language: 'en', final: true }],
    });
  }

  // ---- what this participant sees ---------------------------------------------------------------------------------

  /** @param {string} identity @param {string} source */
  picture(identity, source = 'camera') {
    return this.#pictures.get(`${identity}/${source}`) ?? null;
  }

  /** @param {string} identity @param {string} source */
  resetPicture(identity, source = 'camera') {
    const report = this.#pictures.get(`${identity}/${source}`);
    if (report) Object.assign(report, { ...emptyReport(), lastNumber: report.lastNumber });
  }

  /** @param {string} identity */
  tone(identity) {
    const samples = this.#sounds.get(identity);
    return samples && samples.length === HEARD_SAMPLES ? strongestTone(samples, SAMPLE_RATE_HZ) : null;
  }

  /** @param {string} identity */
  remote(identity) {
    const who = this.#room.remoteParticipants.get(identity);
    if (!who) return null;
    /** @type {Record<string, unknown>} */
    const tracks = {};
    for (const { sid, muted, track, mimeType, source } of who.trackPublications.values()) {
      tracks[nameOf(source)] = { sid, isMuted: muted ?? false, isSubscribed: track !== undefined, mimeType: mimeType ?? '' };
    }
    const { sid, name, metadata, attributes } = who;
    return { identity, sid, name, metadata, attributes: { ...attributes }, isSpeaking: this.#speaking.includes(identity), tracks };
  }

  state() {
    const isConnected = this.#room.connectionState === ConnectionState.CONN_CONNECTED;
    return { connection: isConnected ? 'connected' : 'other', identity: this.#me.identity, remotes: [...this.#room.remoteParticipants.keys()].sort() };
  }

  async roomState() {
    const { name, metadata, numParticipants } = this.#room;
    return { sid: await this.#room.getSid(), name, metadata, participants: numParticipants };
  }

  me() {
    const { identity, name, metadata, attributes, trackPublications } = this.#me;
    const tracks = [...trackPublications.values()].map(({ source, sid, muted }) => ({ source: nameOf(source), sid, isMuted: muted ?? false }));
    return { identity, name, metadata, attributes: { ...attributes }, tracks };
  }

  events() {
    return this.#events;
  }

  spoke() {
    return [...this.#spoke].sort();
  }

  speaking() {
    return this.#speaking;
  }

  /** @param {string} identity */
  quality(identity) {
    return this.#qualities.get(identity) ?? 'unknown';
  }

  /** @param {string} identity @param {string} source @param {boolean} isSubscribed */
  setSubscribed(identity, source, isSubscribed) {
    const publication = [...(this.#room.remoteParticipants.get(identity)?.trackPublications.values() ?? [])].find((each) => nameOf(each.source) === source);
    if (!publication) throw new Error(`${identity} publishes no ${source}`);
    publication.setSubscribed(isSubscribed);
  }

  /** @param {string} scenario */
  async simulate(scenario) {
    const kind = SCENARIOS[scenario];
    if (kind === undefined) throw new Error(`no scenario ${scenario}`);
    await this.#room.simulateScenario(kind);
  }

  // ---- parts ------------------------------------------------------------------------------------------------------

  get #me() {
    if (!this.#room.localParticipant) throw new Error('not joined');
    return this.#room.localParticipant;
  }

  /** @param {AudioSource} source @param {number} frequencyHz */
  async #play(source, frequencyHz) {
    for (let at = 0; !this.#isOver; at += CHUNK_SAMPLES) {
      const samples = Int16Array.from({ length: CHUNK_SAMPLES }, (_, i) => Math.round(12_000 * Math.sin((2 * Math.PI * frequencyHz * (at + i)) / SAMPLE_RATE_HZ)));
      try {
        await source.captureFrame(new AudioFrame(samples, SAMPLE_RATE_HZ, 1, CHUNK_SAMPLES));
      } catch (error) {
        if (!this.#isOver) throw error;
      }
    }
  }

  /** @param {import('@livekit/rtc-node').RemoteTrack} track @param {string} key */
  async #watch(track, key) {
    const report = emptyReport();
    this.#pictures.set(key, report);
    for await (const { frame } of new VideoStream(track)) {
      if (frame.width < SMALLEST_WIDTH) continue;
      const { data, width, height } = frame.type === VideoBufferType.I420 ? frame : frame.convert(VideoBufferType.I420);
      take(report, read((x, y) => data[y * width + x] ?? 0, width, height), width, height);
    }
  }

  /** @param {import('@livekit/rtc-node').RemoteTrack} track @param {string} identity */
  async #hear(track, identity) {
    for await (const { data } of new AudioStream(track, SAMPLE_RATE_HZ, 1)) {
      const kept = [...(this.#sounds.get(identity) ?? []), ...Array.from(data, (sample) => sample / 32768)];
      this.#sounds.set(identity, Float32Array.from(kept.slice(-HEARD_SAMPLES)));
    }
  }

  /** @param {Room} room */
  #listen(room) {
    for (const name of /** @type {const} */ (['connected', 'disconnected', 'reconnecting', 'reconnected', 'participantConnected', 'participantDisconnected', 'moved'])) {
      room.on(/** @type {any} */ (name), () => this.#events.push({ name, atMs: 0, detail: [] }));
    }
    room.on(RoomEvent.TrackSubscribed, (track, publication, from) => {
      if (track.kind === TrackKind.KIND_VIDEO) void this.#watch(track, `${from.identity}/${nameOf(publication.source)}`);
      else void this.#hear(track, from.identity);
    });
    room.on(RoomEvent.DataReceived, (payload, from, _kind, topic) => {
      this.#messages.push({ from: from?.identity ?? '', text: new TextDecoder().decode(payload), topic: topic ?? '' });
    });
    room.on(RoomEvent.ActiveSpeakersChanged, (speakers) => {
      this.#speaking = speakers.map((who) => who.identity).sort();
      this.#speaking.forEach((identity) => this.#spoke.add(identity));
    });
    room.on(RoomEvent.ConnectionQualityChanged, (quality, who) => {
      this.#qualities.set(who.identity, (ConnectionQuality[quality] ?? '').replace('QUALITY_', '').toLowerCase());
    });
  }
}

function emptyReport() {
  return { ids: /** @type {number[]} */ ([]), readable: 0, unreadable: 0, backward: 0, backwardBy: 0, lastNumber: -1, sizes: /** @type {string[]} */ ([]), size: '' };
}

/** @param {ReturnType<typeof emptyReport>} report @param {{ id: number, number: number } | null} caption @param {number} width @param {number} height */
function take(report, caption, width, height) {
  report.size = `${width}x${height}`;
  if (!report.sizes.includes(report.size)) report.sizes.push(report.size);
  if (!caption) {
    report.unreadable += 1;
    return;
  }
  report.readable += 1;
  if (!report.ids.includes(caption.id)) report.ids.push(caption.id);
  const step = (caption.number - report.lastNumber + 0x10000) % 0x10000;
  if (report.lastNumber >= 0 && step > 0x8000) {
    report.backward += 1;
    report.backwardBy = Math.max(report.backwardBy, 0x10000 - step);
  }
  report.lastNumber = caption.number;
}

/** @param {TrackSource | undefined} source */
function nameOf(source) {
  return Object.keys(SOURCES).find((name) => SOURCES[name] === source) ?? '';
}

/** @type {Map<string, Lab>} */
const labs = new Map();

process.on('message', async (/** @type {{ id: number, who: string, method: string, args: unknown[] }} */ { id, who, method, args }) => {
  const lab = /** @type {any} */ (labs.get(who) ?? labs.set(who, new Lab()).get(who));
  try {
    if (typeof lab[method] !== 'function') throw new Error(`the Node worker has no ${method}`);
    process.send?.({ id, result: (await lab[method](...args)) ?? null });
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  }
  if (method === 'leave') labs.delete(who);
});

process.on('disconnect', async () => {
  await Promise.allSettled([...labs.values()].map((lab) => lab.leave()));
  await dispose();
  process.exit(0);
});
