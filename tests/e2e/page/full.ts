// The bare page with everything else that the SDK offers: RPC, streams, data tracks, transcription, encryption, permissions.

import { ExternalE2EEKeyProvider, RoomEvent, Track, VideoQuality, type RemoteTrackPublication, type Room } from 'livekit-client';
import { pattern, seedOf } from '../lib/pattern.js';
import { Lab, type JoinRequest, type JoinResult, type Source } from './lab.ts';

export interface FullJoinRequest extends JoinRequest {
  /** Encrypts media and data end to end with keys derived from this passphrase. */
  passphrase?: string;
}

/** A stream that has arrived: text as it is, bytes as their count and the seed of their pattern (null: damaged). */
export interface Arrived {
  from: string;
  topic: string;
  text?: string;
  attributes: Record<string, string>;
  name?: string;
  size?: number;
  seed?: number | null;
}

export class FullLab extends Lab {
  #keys: ExternalE2EEKeyProvider | null = null;
  #arrived: Arrived[] = [];
  #dataFrames: Arrived[] = [];
  #transcriptions: { from: string; text: string; isFinal: boolean }[] = [];
  #dataTracks = new Map<string, Awaited<ReturnType<Room['localParticipant']['publishDataTrack']>>>();
  #encryptionErrors: string[] = [];
  #spoke = new Set<string>();

  override async join({ passphrase, ...request }: FullJoinRequest): Promise<JoinResult> {
    this.#keys = null;
    if (passphrase !== undefined) {
      this.#keys = new ExternalE2EEKeyProvider();
      await this.#keys.setKey(passphrase);
      request = { ...request, options: { ...request.options, encryption: { keyProvider: this.#keys, worker: new Worker('/e2ee-worker.js') } } };
    }
    return super.join(request);
  }

  protected override async prepare(room: Room): Promise<void> {
    this.#arrived = [];
    this.#dataFrames = [];
    this.#transcriptions = [];
    this.#encryptionErrors = [];
    this.#spoke.clear();
    room.on(RoomEvent.TranscriptionReceived, (segments, from) => {
      for (const { text, final } of segments) this.#transcriptions.push({ from: from?.identity ?? '', text, isFinal: final });
    });
    room.on(RoomEvent.EncryptionError, (error) => this.#encryptionErrors.push(error.message));
    room.on(RoomEvent.ActiveSpeakersChanged, (speakers) => speakers.forEach((who) => this.#spoke.add(who.identity)));
    room.on(RoomEvent.DataTrackPublished, async (track) => {
      const reader = track.subscribe().getReader();
      for (let frame = await reader.read(); !frame.done; frame = await reader.read()) {
        const { payload } = frame.value;
        this.#dataFrames.push({ from: track.publisherIdentity, topic: track.info.name, attributes: {}, size: payload.length, seed: seedOf(payload) });
      }
    });
    if (this.#keys) await room.setE2EEEnabled(true);
  }

  /** Publishes a tone in this codec only, which livekit-client has no option for: the browser is told to offer nothing else. */
  async publishToneIn(codec: 'PCMU' | 'PCMA', frequencyHz: number): Promise<string> {
    const wanted = RTCRtpSender.getCapabilities('audio')?.codecs.filter((one) => one.mimeType === `audio/${codec}`) ?? [];
    const addTransceiver = RTCPeerConnection.prototype.addTransceiver;
    RTCPeerConnection.prototype.addTransceiver = function (this: RTCPeerConnection, ...args: Parameters<typeof addTransceiver>) {
      const transceiver = addTransceiver.apply(this, args);
      if (transceiver.sender.track?.kind === 'audio') transceiver.setCodecPreferences(wanted);
      return transceiver;
    };
    try {
      // Below its 64 kbit/s the browser refuses the answer.
      return await this.publishTone(frequencyHz, { red: false, dtx: false, audioPreset: { maxBitrate: 96_000 } });
    } finally {
      RTCPeerConnection.prototype.addTransceiver = addTransceiver;
    }
  }

  /** Changes the passphrase from now on. */
  async setPassphrase(passphrase: string): Promise<void> {
    await this.#keys?.setKey(passphrase);
  }

  encryptionErrors(): string[] {
    return this.#encryptionErrors;
  }

  isEncrypted(identity: string): boolean {
    return this.room.remoteParticipants.get(identity)?.isEncrypted ?? false;
  }

  // ---- RPC and streams ----------------------------------------------------------------------------------------------

  /** Answers calls of `method` with who was called by whom with what; the payload "fail" gets an error. */
  serveRpc(method: string): void {
    this.room.registerRpcMethod(method, async ({ callerIdentity, payload }) => {
      if (payload === 'fail') throw new Error('failed as asked');
      return `${this.room.localParticipant.identity} heard ${callerIdentity}: ${payload}`;
    });
  }

  /** The answer, or the code of the error. */
  async callRpc(destinationIdentity: string, method: string, payload: string): Promise<{ answer?: string; code?: number }> {
    try {
      return { answer: await this.room.localParticipant.performRpc({ destinationIdentity, method, payload }) };
    } catch (error) {
      return { code: Number((error as { code?: number }).code) };
    }
  }

  /** Takes text and byte streams of `topic` from now on. */
  takeStreams(topic: string): void {
    this.room.registerTextStreamHandler(topic, async (reader, { identity }) => {
      const text = await reader.readAll();
      this.#arrived.push({ from: identity, topic, text, attributes: { ...reader.info.attributes } });
    });
    this.room.registerByteStreamHandler(topic, async (reader, { identity }) => {
      const bytes = new Uint8Array(await new Blob((await reader.readAll()) as Uint8Array<ArrayBuffer>[]).arrayBuffer());
      this.#arrived.push({ from: identity, topic, attributes: { ...reader.info.attributes }, name: reader.info.name, size: bytes.length, seed: seedOf(bytes) });
    });
  }

  async sendText(topic: string, text: string, attributes: Record<string, string> = {}): Promise<void> {
    await this.room.localParticipant.sendText(text, { topic, attributes });
  }

  /** Sends the pattern of that size; `compress` off shows the plain protocol with its many chunks. */
  async sendBytes(topic: string, name: string, size: number, seed: number, compress = false): Promise<void> {
    await this.room.localParticipant.sendBytes(pattern(size, seed), { topic, name, compress });
  }

  arrived(): Arrived[] {
    return this.#arrived;
  }

  async publishDataTrack(name: string): Promise<void> {
    this.#dataTracks.set(name, await this.room.localParticipant.publishDataTrack({ name }));
  }

  async pushDataFrame(name: string, size: number, seed: number): Promise<void> {
    await this.#dataTracks.get(name)?.tryPush({ payload: pattern(size, seed) });
  }

  dataFrames(): Arrived[] {
    return this.#dataFrames;
  }

  transcriptions(): { from: string; text: string; isFinal: boolean }[] {
    return this.#transcriptions;
  }

  // ---- the room's state ---------------------------------------------------------------------------------------------

  /** Everybody who was an active speaker at some time since the join. */
  spoke(): string[] {
    return [...this.#spoke].sort();
  }

  speaking(): string[] {
    return this.room.activeSpeakers.map((who) => who.identity).sort();
  }

  quality(identity: string): string {
    const who = identity === this.room.localParticipant.identity ? this.room.localParticipant : this.room.remoteParticipants.get(identity);
    return who?.connectionQuality ?? '';
  }

  roomState(): { sid: string; name: string; metadata: string; participants: number } {
    const { name, metadata = '', numParticipants } = this.room;
    return { sid: '', name, metadata, participants: numParticipants };
  }

  me(): { identity: string; name: string; metadata: string; attributes: Record<string, string>; canPublish: boolean; canSubscribe: boolean; canPublishData: boolean; tracks: { source: string; sid: string; isMuted: boolean }[] } {
    const { identity, name = '', metadata = '', attributes, permissions, trackPublications } = this.room.localParticipant;
    return {
      identity,
      name,
      metadata,
      attributes: { ...attributes },
      canPublish: permissions?.canPublish ?? false,
      canSubscribe: permissions?.canSubscribe ?? false,
      canPublishData: permissions?.canPublishData ?? false,
      tracks: [...trackPublications.values()].map(({ source, trackSid, isMuted }) => ({ source, sid: trackSid, isMuted })),
    };
  }

  /** Publishes and says how that ended: an error's message, or nothing. */
  async refusedPublish(request: Parameters<Lab['publishPicture']>[0]): Promise<string> {
    return this.publishPicture(request).then(() => '', (error: Error) => error.message);
  }

  /** Lets only these participants subscribe to what this one publishes; null lets everybody. */
  allowSubscribers(identities: string[] | null): void {
    const permissions = (identities ?? []).map((participantIdentity) => ({ participantIdentity, allowAll: true }));
    this.room.localParticipant.setTrackSubscriptionPermissions(identities === null, permissions);
  }

  setEnabled(identity: string, source: Source, isEnabled: boolean): void {
    this.#remotePublication(identity, source).setEnabled(isEnabled);
  }

  setFrameRate(identity: string, fps: number): void {
    this.#remotePublication(identity, 'camera').setVideoFPS(fps);
  }

  setQualityOf(identity: string, source: Source, quality: 'LOW' | 'MEDIUM' | 'HIGH'): void {
    this.#remotePublication(identity, source).setVideoQuality(VideoQuality[quality]);
  }

  isAllowed(identity: string, source: Source): boolean {
    return this.#remotePublication(identity, source).permissionStatus === 'allowed';
  }

  /** The names of the protocol version and paths that the SDK took. */
  usesSinglePeerConnection(): boolean {
    return this.room.engine.pcManager?.mode === 'publisher-only';
  }

  #remotePublication(identity: string, source: Source): RemoteTrackPublication {
    const publication = this.room.remoteParticipants.get(identity)?.getTrackPublication(source as Track.Source);
    if (!publication) throw new Error(`${identity} publishes no ${source}`);
    return publication as RemoteTrackPublication;
  }
}

declare global {
  interface Window {
    full: FullLab;
  }
}

window.lab = window.full = new FullLab();
