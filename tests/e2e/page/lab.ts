// The bare page's face to the tests: `window.lab` joins rooms with livekit-client, publishes and reads back.

import { connections, refuseCodecs, sendWrongFingerprints, setOffline, sockets } from './wire.ts';
import { ConnectionError, ConnectionErrorReason, Room, RoomEvent, Track, VideoQuality, type Participant, type RemoteTrack, type RoomOptions, type TrackPublishOptions } from 'livekit-client';
import { Features } from './features.ts';
import { PictureReader, ToneReader, type PictureReport } from './reader.ts';
import { PictureSource, toneTrack } from './source.ts';
import { inboundReport, outboundReport, pathReport, type InboundReport, type OutboundLayer, type PathReport } from './stats.ts';

export type Source = 'camera' | 'microphone' | 'screen_share';

export interface JoinRequest {
  url: string;
  token: string;
  options?: RoomOptions;
  autoSubscribe?: boolean;
  /** Milliseconds until a join without a media connection fails. */
  peerConnectionTimeout?: number;
  /** For the peer connections. */
  rtcConfig?: RTCConfiguration;
}

export type JoinResult = { ok: true; sid: string; identity: string; tookMs: number } | { ok: false; reason: string; status: number; message: string };

export interface PublishRequest {
  id: number;
  width?: number;
  height?: number;
  fps?: number;
  options?: TrackPublishOptions;
}

export interface RemoteReport {
  identity: string;
  sid: string;
  name: string;
  metadata: string;
  attributes: Record<string, string>;
  isSpeaking: boolean;
  tracks: Partial<Record<Source, { sid: string; isMuted: boolean; isSubscribed: boolean; mimeType: string }>>;
}

export interface LabEvent {
  atMs: number;
  name: string;
  detail: unknown;
}

const AS_SHOWN = [
  RoomEvent.Connected, RoomEvent.Disconnected, RoomEvent.Reconnecting, RoomEvent.SignalReconnecting, RoomEvent.Reconnected,
  RoomEvent.ParticipantConnected, RoomEvent.ParticipantDisconnected, RoomEvent.TrackSubscribed, RoomEvent.TrackUnsubscribed,
  RoomEvent.TrackMuted, RoomEvent.TrackUnmuted, RoomEvent.TrackUnpublished, RoomEvent.ConnectionStateChanged, RoomEvent.TrackSubscriptionFailed,
] as const;

export class Lab {
  #room = new Room();
  #joinedAt = 0;
  readonly #audio = new AudioContext({ sampleRate: 48_000 });
  readonly #sources = new Map<Source, PictureSource>();
  readonly #pictures = new Map<string, PictureReader>();
  readonly #tones = new Map<string, ToneReader>();
  #events: LabEvent[] = [];
  #messages: { from: string; text: string; topic: string }[] = [];

  async join({ url, token, options, autoSubscribe = true, peerConnectionTimeout = 15_000, rtcConfig }: JoinRequest): Promise<JoinResult> {
    this.#room = new Room({ adaptiveStream: false, dynacast: false, ...options });
    this.#events = [];
    this.#messages = [];
    this.#listen(this.#room);
    this.#joinedAt = performance.now();
    try {
      await this.prepare(this.#room);
      await this.#room.connect(url, token, { autoSubscribe, peerConnectionTimeout, maxRetries: 0, ...(rtcConfig ? { rtcConfig } : {}) });
    } catch (error) {
      // `reasonName` names the class of the wrapper, `reason` the cause.
      const isNamed = error instanceof ConnectionError;
      return {
        ok: false,
        reason: isNamed ? (ConnectionErrorReason[error.reason] ?? '') : '',
        status: isNamed ? Number(error.status ?? 0) : 0,
        message: error instanceof Error ? error.message : String(error),
      };
    }
    return { ok: true, sid: await this.#room.getSid(), identity: this.#room.localParticipant.identity, tookMs: performance.now() - this.#joinedAt };
  }

  async leave(): Promise<void> {
    await this.#room.disconnect();
    this.#sources.forEach((source) => source.stop());
    this.#sources.clear();
    this.#pictures.clear();
    this.#tones.clear();
  }

  // ---- publishing -------------------------------------------------------------------------------------------------

  async publishPicture({ id, width = 320, height = 180, fps = 15, options }: PublishRequest): Promise<string> {
    return this.#publishPicture('camera', id, width, height, fps, { simulcast: false, ...options });
  }

  /** The same without waiting for an answer that may never come. */
  tryPublishPicture(request: PublishRequest): void {
    this.publishPicture(request).catch(() => {});
  }

  async publishScreen({ id, width = 640, height = 360, fps = 10, options }: PublishRequest): Promise<string> {
    return this.#publishPicture('screen_share', id, width, height, fps, { simulcast: false, ...options });
  }

  async publishTone(frequencyHz: number, options?: TrackPublishOptions): Promise<string> {
    const track = toneTrack(this.#audio, frequencyHz);
    const publication = await this.#room.localParticipant.publishTrack(track, { source: Track.Source.Microphone, name: 'tone', ...options });
    return publication.trackSid;
  }

  /** Publishes the browser's own (fake) camera and microphone, with audio processing off so that a tone survives. */
  async publishDevices(options?: TrackPublishOptions): Promise<void> {
    const me = this.#room.localParticipant;
    await me.setMicrophoneEnabled(true, { echoCancellation: false, noiseSuppression: false, autoGainControl: false, voiceIsolation: false });
    await me.setCameraEnabled(true, { resolution: { width: 320, height: 180, frameRate: 15 } }, { simulcast: false, ...options });
  }

  async setMuted(source: Source, isMuted: boolean): Promise<void> {
    const track = this.#localTrack(source);
    await (isMuted ? track.mute() : track.unmute());
  }

  async unpublish(source: Source): Promise<void> {
    await this.#room.localParticipant.unpublishTrack(this.#localTrack(source));
    this.#sources.get(source)?.stop();
    this.#sources.delete(source);
  }

  async describe({ name, metadata, attributes }: { name?: string; metadata?: string; attributes?: Record<string, string> }): Promise<void> {
    const me = this.#room.localParticipant;
    if (name !== undefined) await me.setName(name);
    if (metadata !== undefined) await me.setMetadata(metadata);
    if (attributes !== undefined) await me.setAttributes(attributes);
  }

  async send(text: string, options: { reliable: boolean; topic?: string; destinationIdentities?: string[] }): Promise<void> {
    await this.#room.localParticipant.publishData(new TextEncoder().encode(text), options);
  }

  async sent(source: Source): Promise<OutboundLayer[]> {
    return outboundReport(await this.#localTrack(source).getRTCStatsReport());
  }

  /** For what other parts of the page do in the room. */
  currentRoom(): Room {
    return this.#room;
  }

  // ---- what this participant sees ---------------------------------------------------------------------------------

  state(): { connection: string; identity: string; remotes: string[] } {
    const { state, localParticipant, remoteParticipants } = this.#room;
    return { connection: state, identity: localParticipant.identity, remotes: [...remoteParticipants.keys()].sort() };
  }

  events(): LabEvent[] {
    return this.#events;
  }

  messages(): { from: string; text: string; topic: string }[] {
    return this.#messages;
  }

  remote(identity: string): RemoteReport | null {
    const participant = this.#room.remoteParticipants.get(identity);
    if (!participant) return null;
    const tracks: RemoteReport['tracks'] = {};
    for (const publication of participant.trackPublications.values()) {
      const { trackSid, isMuted, isSubscribed, mimeType = '' } = publication;
      tracks[publication.source as Source] = { sid: trackSid, isMuted, isSubscribed, mimeType };
    }
    const { sid, name = '', metadata = '', attributes, isSpeaking } = participant;
    return { identity, sid, name, metadata, attributes: { ...attributes }, isSpeaking, tracks };
  }

  picture(identity: string, source: Source = 'camera'): PictureReport | null {
    return this.#pictures.get(key(identity, source))?.report() ?? null;
  }

  resetPicture(identity: string, source: Source = 'camera'): void {
    this.#pictures.get(key(identity, source))?.reset();
  }

  /** Milliseconds from the call of `join` to the first readable frame of `identity`; 0 while there is none. */
  firstFrameMs(identity: string): number {
    const firstAt = this.picture(identity)?.firstAt ?? 0;
    return firstAt > 0 ? firstAt - this.#joinedAt : 0;
  }

  tone(identity: string): { hz: number; db: number } | null {
    return this.#tones.get(key(identity, 'microphone'))?.report() ?? null;
  }

  async received(identity: string, source: Source): Promise<InboundReport | null> {
    const track = this.#publication(identity, source).track;
    return track instanceof Object ? inboundReport(await (track as RemoteTrack).getRTCStatsReport()) : null;
  }

  /** Codecs that are on the way out of this page, whatever track they belong to, with packets sent so far. */
  async sendingCodecs(): Promise<{ mimeType: string; packetsSent: number; isActive: boolean }[]> {
    const reports = await Promise.all(connections.filter((connection) => connection.connectionState === 'connected').map((connection) => connection.getStats()));
    return reports.flatMap((report) => outboundReport(report).map(({ mimeType, packetsSent, isActive }) => ({ mimeType: mimeType.toLowerCase(), packetsSent, isActive })));
  }

  setSubscribed(identity: string, source: Source, isSubscribed: boolean): void {
    this.#publication(identity, source).setSubscribed(isSubscribed);
  }

  /** Asks for the size that the picture is shown in, as an element's observer would. */
  setSize(identity: string, width: number, height: number): void {
    this.#publication(identity, 'camera').setVideoDimensions({ width, height });
  }

  setQuality(identity: string, quality: 'LOW' | 'MEDIUM' | 'HIGH'): void {
    this.#publication(identity, 'camera').setVideoQuality(VideoQuality[quality]);
  }

  setFps(identity: string, fps: number): void {
    this.#publication(identity, 'camera').setVideoFPS(fps);
  }

  // ---- disturbing the call ----------------------------------------------------------------------------------------

  /** Closes the signaling socket under livekit-client, which then resumes its session. */
  cutSocket(): void {
    sockets.at(-1)?.close();
  }

  /** The signaling is away until called with false; media goes on. */
  setOffline(isOffline: boolean): void {
    setOffline(isOffline);
  }

  async simulate(scenario: Parameters<Room['simulateScenario']>[0]): Promise<void> {
    await this.#room.simulateScenario(scenario);
  }

  /** The paths of all connections that are up. */
  async paths(): Promise<PathReport[]> {
    const reports = await Promise.all(connections.filter((connection) => connection.connectionState === 'connected').map((connection) => connection.getStats()));
    return reports.map(pathReport).filter((path) => path !== null);
  }

  /** What the server has told about relays. */
  iceServers(): RTCIceServer[] {
    return connections.at(-1)?.getConfiguration().iceServers ?? [];
  }

  /** Joins from here on say that these codecs can't be received. */
  refuseCodecs(names: string[]): void {
    refuseCodecs(names);
  }

  sendWrongFingerprints(): void {
    sendWrongFingerprints();
  }

  /** Peer connections that are up, and how many m-lines each has. */
  peerConnections(): number[] {
    return connections
      .filter((connection) => connection.connectionState === 'connected')
      .map((connection) => (connection.localDescription?.sdp.match(/^m=/gm) ?? []).length);
  }

  /** Paths of the signaling sockets that the page opened. */
  socketPaths(): string[] {
    return sockets.map((socket) => new URL(socket.url).pathname);
  }

  /** The server's ICE credentials and addresses, as any eavesdropper of the signaling would know them. */
  serverIce(): { ufrag: string; localUfrag: string; candidates: string[]; ssrcs: number[] }[] {
    return connections
      .filter((connection) => connection.connectionState === 'connected')
      .map((connection) => {
        const remote = connection.remoteDescription?.sdp ?? '';
        const local = connection.localDescription?.sdp ?? '';
        return {
          ufrag: /a=ice-ufrag:(\S+)/.exec(remote)?.[1] ?? '',
          localUfrag: /a=ice-ufrag:(\S+)/.exec(local)?.[1] ?? '',
          candidates: [...remote.matchAll(/a=candidate:(.*)/g)].map((match) => match[1] ?? ''),
          ssrcs: [...new Set([...local.matchAll(/a=ssrc:(\d+)/g)].map((match) => Number(match[1])))],
        };
      });
  }

  // ---- parts ------------------------------------------------------------------------------------------------------

  /** The room of the last `join`; for classes that add to this one, as is `prepare`, which runs before it connects. */
  protected get room(): Room {
    return this.#room;
  }

  protected async prepare(_room: Room): Promise<void> {}

  async #publishPicture(source: Source, id: number, width: number, height: number, fps: number, options: TrackPublishOptions): Promise<string> {
    const picture = new PictureSource(id, width, height, fps);
    await picture.ready();
    this.#sources.set(source, picture);
    const publication = await this.#room.localParticipant.publishTrack(picture.track, { source: source as Track.Source, name: `${source}-${id}`, ...options });
    return publication.trackSid;
  }

  #localTrack(source: Source) {
    const track = this.#room.localParticipant.getTrackPublication(source as Track.Source)?.track;
    if (!track) throw new Error(`${source} is not published`);
    return track as NonNullable<typeof track> & { mute(): Promise<unknown>; unmute(): Promise<unknown> };
  }

  #publication(identity: string, source: Source) {
    const publication = this.#room.remoteParticipants.get(identity)?.getTrackPublication(source as Track.Source);
    if (!publication) throw new Error(`${identity} publishes no ${source}`);
    return publication;
  }

  #listen(room: Room): void {
    for (const name of AS_SHOWN) {
      room.on(name, (...details: unknown[]) => this.#events.push({ atMs: Math.round(performance.now() - this.#joinedAt), name, detail: details.map(plain) }));
    }
    room.on(RoomEvent.DataReceived, (payload, from, _kind, topic) => {
      this.#messages.push({ from: from?.identity ?? '', text: new TextDecoder().decode(payload), topic: topic ?? '' });
    });
    room.on(RoomEvent.TrackSubscribed, (track, publication, participant) => this.#attach(track, publication.source as Source, participant));
    room.on(RoomEvent.TrackUnsubscribed, (track, publication, participant) => {
      track.detach().forEach((element) => element.remove());
      this.#pictures.delete(key(participant.identity, publication.source as Source));
      this.#tones.get(key(participant.identity, publication.source as Source))?.close();
      this.#tones.delete(key(participant.identity, publication.source as Source));
    });
  }

  #attach(track: RemoteTrack, source: Source, from: Participant): void {
    const element = track.attach();
    element.muted = true;
    document.body.append(element);
    if (element instanceof HTMLVideoElement) this.#pictures.set(key(from.identity, source), new PictureReader(element));
    else this.#tones.set(key(from.identity, source), new ToneReader(this.#audio, track.mediaStreamTrack));
  }
}

function key(identity: string, source: Source): string {
  return `${identity}/${source}`;
}

function plain(detail: unknown): unknown {
  if (detail === null || typeof detail !== 'object') return detail;
  const { identity, sid, trackSid } = detail as { identity?: string; sid?: string; trackSid?: string };
  return identity ?? trackSid ?? sid ?? '';
}

declare global {
  interface Window {
    lab: Lab;
  }
}

window.lab = new Lab();
window.features = new Features(() => window.lab.currentRoom());
