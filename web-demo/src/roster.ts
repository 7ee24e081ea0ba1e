// From livekit-client's participants to the tiles of the grid.

import { ConnectionQuality, Track, type Participant, type Room } from 'livekit-client';
import type { Me, Quality, Tile } from './state.ts';

/** What a tile needs to know about a participant. */
export type Person = Pick<Participant, 'sid' | 'identity' | 'name' | 'isLocal' | 'isSpeaking' | 'isMicrophoneEnabled' | 'connectionQuality' | 'getTrackPublication'>;

/** Shared screens first, then the others in the order they came, then oneself. */
export function tilesOf(room: Pick<Room, 'localParticipant' | 'remoteParticipants'>): Tile[] {
  const people: Person[] = [...room.remoteParticipants.values(), room.localParticipant];
  return [...people.flatMap(screenTile), ...people.map(cameraTile)];
}

export function meOf({ localParticipant: me }: Pick<Room, 'localParticipant'>): Me {
  return { isMicrophoneOn: me.isMicrophoneEnabled, isCameraOn: me.isCameraEnabled, isScreenOn: me.isScreenShareEnabled };
}

function cameraTile(person: Person): Tile {
  return {
    key: `${person.sid}/camera`,
    name: nameOf(person),
    isLocal: person.isLocal,
    isScreen: false,
    isSpeaking: person.isSpeaking && person.isMicrophoneEnabled,
    isMuted: !person.isMicrophoneEnabled,
    videoSid: videoSid(person, Track.Source.Camera),
    quality: qualityOf(person.connectionQuality),
  };
}

function screenTile(person: Person): Tile[] {
  const sid = videoSid(person, Track.Source.ScreenShare);
  if (sid === null) return [];
  const name = person.isLocal ? 'Your screen' : `${nameOf(person)}’s screen`;
  return [{ key: `${person.sid}/screen`, name, isLocal: person.isLocal, isScreen: true, isSpeaking: false, isMuted: false, videoSid: sid, quality: null }];
}

/** The track to show: there, not muted, and (if it is someone else's) received. */
function videoSid(person: Person, source: Track.Source): string | null {
  const publication = person.getTrackPublication(source);
  return publication?.track && !publication.isMuted ? publication.trackSid : null;
}

function nameOf(person: Person): string {
  return person.name || person.identity;
}

function qualityOf(quality: ConnectionQuality): Quality | null {
  switch (quality) {
    case ConnectionQuality.Excellent: return 'excellent';
    case ConnectionQuality.Good: return 'good';
    case ConnectionQuality.Poor: return 'poor';
    case ConnectionQuality.Lost: return 'lost';
    case ConnectionQuality.Unknown: return null;
  }
}
