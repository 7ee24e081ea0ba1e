// What apps do beside audio and video: RPC, streams, data tracks, permissions; and what they are told of connections.
// `window.features` works on the room that `window.lab` has joined.

import { connections } from './wire.ts';
import { RoomEvent, Track, type LocalDataTrack, type ParticipantTrackPermission, type RemoteDataTrack, type Room } from 'livekit-client';

type CallResult = { ok: true; answer: string } | { ok: false; code: number; message: string };

export class Features {
  readonly #room: () => Room;
  readonly #texts: { from: string; topic: string; text: string }[] = [];
  readonly #files: { from: string; name: string; bytes: number; digest: string }[] = [];
  readonly #published = new Map<string, LocalDataTrack>();
  readonly #remote = new Map<string, RemoteDataTrack>();
  readonly #frames = new Map<string, string[]>();
  readonly #qualities: { identity: string; quality: string }[] = [];
  readonly #states: { identity: string; state: string }[] = [];
  readonly #permissions: { identity: string; status: string }[] = [];

  constructor(room: () => Room) {
    this.#room = room;
  }

  /** To be called after `lab.join`. */
  listen(): void {
    const room = this.#room();
    room.on(RoomEvent.ConnectionQualityChanged, (quality, participant) => this.#qualities.push({ identity: participant.identity, quality }));
    room.on(RoomEvent.TrackStreamStateChanged, (_publication, state, participant) => this.#states.push({ identity: participant.identity, state }));
    room.on(RoomEvent.TrackSubscriptionPermissionChanged, (_publication, status, participant) => this.#permissions.push({ identity: participant.identity, status }));
    room.on(RoomEvent.DataTrackPublished, (track) => this.#remote.set(track.info.name, track));
    room.on(RoomEvent.DataTrackUnpublished, (sid) => {
      for (const [name, track] of this.#remote) if (track.info.sid === sid) this.#remote.delete(name);
    });
    room.registerTextStreamHandler('text', async (reader, { identity }) => {
      this.#texts.push({ from: identity, topic: reader.info.topic, text: await reader.readAll() });
    });
    room.registerByteStreamHandler('file', async (reader, { identity }) => {
      const bytes = joined(await reader.readAll());
      this.#files.push({ from: identity, name: reader.info.name, bytes: bytes.length, digest: await digest(bytes) });
    });
  }

  qualities(): { identity: string; quality: string }[] {
    return this.#qualities;
  }

  streamStates(): { identity: string; state: string }[] {
    return this.#states;
  }

  permissionChanges(): { identity: string; status: string }[] {
    return this.#permissions;
  }

  // ---- RPC and streams --------------------------------------------------------------------------------------------

  /** Answers with the caller and the payload reversed; refuses an empty payload. */
  answerCalls(method: string): void {
    this.#room().registerRpcMethod(method, async ({ callerIdentity, payload }) => {
      if (payload === '') throw new Error('nothing to reverse');
      return `${callerIdentity}:${[...payload].reverse().join('')}`;
    });
  }

  async call(destinationIdentity: string, method: string, payload: string): Promise<CallResult> {
    try {
      return { ok: true, answer: await this.#room().localParticipant.performRpc({ destinationIdentity, method, payload }) };
    } catch (error) {
      const { code = 0, message = '' } = error as { code?: number; message?: string };
      return { ok: false, code, message };
    }
  }

  async sendText(text: string, destinationIdentities: string[] = []): Promise<void> {
    await this.#room().localParticipant.sendText(text, { topic: 'text', destinationIdentities });
  }

  texts(): { from: string; topic: string; text: string }[] {
    return this.#texts;
  }

  /** Streams pseudo-random bytes; returns their digest. */
  async sendFile(name: string, size: number): Promise<string> {
    const bytes = new Uint8Array(size);
    let state = 1;
    for (let at = 0; at < size; at += 1) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      bytes[at] = state >>> 16;
    }
    const writer = await this.#room().localParticipant.streamBytes({ name, topic: 'file', totalSize: size });
    await writer.write(bytes);
    await writer.close();
    return digest(bytes);
  }

  files(): { from: string; name: string; bytes: number; digest: string }[] {
    return this.#files;
  }

  /** Sends numbered reliable packets, one after the other, at this pace. */
  async sendNumbers(count: number, everyMs: number): Promise<void> {
    for (let number = 0; number < count; number += 1) {
      await this.#room().localParticipant.publishData(new TextEncoder().encode(`n${number}`), { reliable: true });
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  // ---- data tracks ------------------------------------------------------------------------------------------------

  async publishDataTrack(name: string): Promise<string> {
    const track = await this.#room().localParticipant.publishDataTrack({ name });
    this.#published.set(name, track);
    return track.info?.sid ?? '';
  }

  async unpublishDataTrack(name: string): Promise<void> {
    await this.#published.get(name)?.unpublish();
  }

  async pushFrame(name: string, text: string): Promise<void> {
    await this.#published.get(name)?.tryPush({ payload: new TextEncoder().encode(text) });
  }

  /** Names of the others' data tracks. */
  dataTracks(): string[] {
    return [...this.#remote.keys()].sort();
  }

  /** Frames of a data track are kept from here on. */
  subscribeDataTrack(name: string): void {
    const frames: string[] = [];
    this.#frames.set(name, frames);
    const stream = this.#remote.get(name)?.subscribe();
    if (!stream) throw new Error(`nobody publishes ${name}`);
    void stream.pipeTo(new WritableStream({ write: (frame) => void frames.push(new TextDecoder().decode(frame.payload)) })).catch(() => {});
  }

  frames(name: string): string[] {
    return this.#frames.get(name) ?? [];
  }

  // ---- permissions ------------------------------------------------------------------------------------------------

  allowSubscribers(all: boolean, permissions: ParticipantTrackPermission[] = []): void {
    this.#room().localParticipant.setTrackSubscriptionPermissions(all, permissions);
  }

  /** Which protocol each connected peer connection uses. */
  async protocols(): Promise<string[]> {
    const connected = connections.filter((connection) => connection.connectionState === 'connected');
    const reports = await Promise.all(connected.map((connection) => connection.getStats()));
    return reports.flatMap((report) => {
      const all = [...report.values()];
      const transport = all.find((each) => each.type === 'transport' && each.selectedCandidatePairId);
      const pair = all.find((each) => each.id === transport?.selectedCandidatePairId);
      const local = all.find((each) => each.id === pair?.localCandidateId);
      return local ? [String(local.protocol)] : [];
    });
  }

  /** The browser's picture source stands still, as with a camera that broke. */
  async replaceWithNothing(): Promise<void> {
    await this.#room().localParticipant.getTrackPublication(Track.Source.Camera)?.track?.sender?.replaceTrack(null);
  }
}

function joined(chunks: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

declare global {
  interface Window {
    features: Features;
  }
}
