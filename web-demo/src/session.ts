// The call itself: one livekit-client room at a time, told what to do by the views and telling the store what happened.

import { ConnectionState, Room, RoomEvent, Track, type RemoteTrack, type VideoCodec } from 'livekit-client';
import { deviceProblem, disconnectProblem, isChangeOfMind, joinProblem } from './problem.ts';
import { meOf, tilesOf } from './roster.ts';
import type { Change, Device, JoinForm } from './state.ts';
import { requestTicket } from './token.ts';

/** The topic that LiveKit's own components use for chat. */
const CHAT_TOPIC = 'lk.chat';

/** Events after which the grid may look different. */
const ROSTER_EVENTS = [
  RoomEvent.ParticipantConnected, RoomEvent.ParticipantDisconnected, RoomEvent.ParticipantNameChanged,
  RoomEvent.TrackSubscribed, RoomEvent.TrackUnsubscribed, RoomEvent.TrackMuted, RoomEvent.TrackUnmuted, RoomEvent.TrackPublished,
  RoomEvent.TrackUnpublished, RoomEvent.LocalTrackPublished, RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged, RoomEvent.ConnectionQualityChanged, RoomEvent.Connected, RoomEvent.Reconnected,
] as const;

const DEVICE_WORDS: Record<Device, string> = { microphone: 'microphone', camera: 'camera', screen: 'screen' };

export class Session {
  #room: Room | null = null;
  #ending = new AbortController();

  constructor(
    readonly address: URL,
    readonly dispatch: (change: Change) => void,
    /** Where elements that only play sound live. */
    readonly speakers: HTMLElement,
  ) {}

  async join(form: JoinForm): Promise<void> {
    this.#ending.abort();
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    this.dispatch({ type: 'joining', form });
    const room = this.#newRoom(signal);
    try {
      const { url, token } = await requestTicket(this.address, form.room, form.name, signal);
      await room.connect(url, token);
    } catch (error) {
      if (!signal.aborted) this.dispatch({ type: 'join failed', problem: joinProblem(error) });
      await room.disconnect();
      return;
    }
    if (signal.aborted) return void room.disconnect();
    this.#room = room;
    this.dispatch({ type: 'joined' });
    this.#showRoster(room);
    await Promise.all([form.isMicrophoneWanted ? this.toggle('microphone') : null, form.isCameraWanted ? this.toggle('camera') : null]);
  }

  async leave(): Promise<void> {
    this.#ending.abort();
    const room = this.#room;
    this.#room = null;
    this.dispatch({ type: 'left', problem: null });
    await room?.disconnect();
  }

  /** Switches a device to its other state; a failure is shown and leaves it off. */
  async toggle(device: Device): Promise<void> {
    const room = this.#room;
    if (!room) return;
    const { signal } = this.#ending;
    const me = room.localParticipant;
    this.dispatch({ type: 'device busy', device });
    let problem = null;
    try {
      if (device === 'microphone') await me.setMicrophoneEnabled(!me.isMicrophoneEnabled);
      else if (device === 'camera') await me.setCameraEnabled(!me.isCameraEnabled);
      else await me.setScreenShareEnabled(!me.isScreenShareEnabled, { audio: true, contentHint: 'detail' });
    } catch (error) {
      if (!(device === 'screen' && isChangeOfMind(error))) problem = deviceProblem(error, DEVICE_WORDS[device]);
    }
    if (signal.aborted) return;
    this.dispatch({ type: 'device ready', device, problem });
    this.#showRoster(room);
  }

  async say(text: string): Promise<void> {
    const room = this.#room;
    if (!room) return;
    const { signal } = this.#ending;
    try {
      await room.localParticipant.sendText(text, { topic: CHAT_TOPIC });
    } catch {
      if (!signal.aborted) this.dispatch({ type: 'problem', problem: { code: 'message-not-sent', text: 'The message could not be sent.' } });
      return;
    }
    if (!signal.aborted) this.dispatch({ type: 'message', message: { from: 'You', text, isMine: true, at: new Date() } });
  }

  /** Called from a click, after which browsers allow sound. */
  async allowSound(): Promise<void> {
    await this.#room?.startAudio();
  }

  /** The track that a tile shows. */
  video(videoSid: string): Track | null {
    const room = this.#room;
    if (!room) return null;
    for (const participant of [room.localParticipant, ...room.remoteParticipants.values()]) {
      const publication = participant.trackPublications.get(videoSid);
      if (publication?.track) return publication.track;
    }
    return null;
  }

  #newRoom(signal: AbortSignal): Room {
    const codec = this.address.searchParams.get('codec') as VideoCodec | null;
    const room = new Room({
      adaptiveStream: true,
      dynacast: true,
      publishDefaults: { simulcast: true, ...(codec ? { videoCodec: codec } : {}) },
    });
    const when = (act: () => void) => () => {
      if (!signal.aborted) act();
    };
    for (const event of ROSTER_EVENTS) room.on(event, when(() => this.#showRoster(room)));
    room
      .on(RoomEvent.TrackSubscribed, (track) => this.#play(track))
      .on(RoomEvent.TrackUnsubscribed, (track) => this.#silence(track))
      .on(RoomEvent.SignalReconnecting, when(() => this.dispatch({ type: 'reconnecting' })))
      .on(RoomEvent.Reconnecting, when(() => this.dispatch({ type: 'reconnecting' })))
      .on(RoomEvent.Reconnected, when(() => this.dispatch({ type: 'reconnected' })))
      .on(RoomEvent.AudioPlaybackStatusChanged, when(() => this.dispatch({ type: 'sound', isBlocked: !room.canPlaybackAudio })))
      .on(RoomEvent.Disconnected, (reason) => {
        if (signal.aborted || room !== this.#room) return;
        this.#room = null;
        this.dispatch({ type: 'left', problem: disconnectProblem(reason) });
      });
    room.registerTextStreamHandler(CHAT_TOPIC, async (reader, { identity }) => {
      const text = await reader.readAll();
      const from = room.remoteParticipants.get(identity)?.name || identity;
      if (!signal.aborted) this.dispatch({ type: 'message', message: { from, text, isMine: false, at: new Date() } });
    });
    return room;
  }

  #showRoster(room: Room): void {
    if (room === this.#room && room.state !== ConnectionState.Disconnected) this.dispatch({ type: 'roster', tiles: tilesOf(room), me: meOf(room) });
  }

  #play(track: RemoteTrack): void {
    if (track.kind === Track.Kind.Audio) this.speakers.append(track.attach());
  }

  /** Pictures belong to the tiles, which let go of them when they are redrawn. */
  #silence(track: RemoteTrack): void {
    if (track.kind === Track.Kind.Audio) track.detach().forEach((element) => element.remove());
  }
}
