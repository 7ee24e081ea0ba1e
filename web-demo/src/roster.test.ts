import { ConnectionQuality, Track } from 'livekit-client';
import { describe, expect, it } from 'vitest';
import { tilesOf, type Person } from './roster.ts';

type Publications = Partial<Record<Track.Source, { trackSid: string; isMuted?: boolean; isReceived?: boolean }>>;

describe('tiles', () => {
  it('shared screens come first, the own tile last', () => {
    const tiles = tilesOf(room(person('me', {}, { isLocal: true }), [person('ann', { [Track.Source.ScreenShare]: { trackSid: 'TR_s' } }), person('bob')]));
    expect(tiles.map((tile) => tile.key)).toEqual(['ann-sid/screen', 'ann-sid/camera', 'bob-sid/camera', 'me-sid/camera']);
  });

  it('a muted camera has no picture', () => {
    expect(only(person('ann', { [Track.Source.Camera]: { trackSid: 'TR_c', isMuted: true } })).videoSid).toBeNull();
  });

  it('a camera that is not received yet has no picture', () => {
    expect(only(person('ann', { [Track.Source.Camera]: { trackSid: 'TR_c', isReceived: false } })).videoSid).toBeNull();
  });

  it('a running camera has a picture', () => {
    expect(only(person('ann', { [Track.Source.Camera]: { trackSid: 'TR_c' } })).videoSid).toBe('TR_c');
  });

  it('nobody without a microphone is shown as speaking', () => {
    expect(only(person('ann', {}, { isSpeaking: true, isMicrophoneEnabled: false }))).toMatchObject({ isSpeaking: false, isMuted: true });
  });

  it('a participant without a name is called by the identity', () => {
    expect(only(person('ann', {}, { name: '' })).name).toBe('ann');
  });

  it('every class of connection is shown as what it is, and none before the server has said one', () => {
    const shown = (['Excellent', 'Good', 'Poor', 'Lost', 'Unknown'] as const).map((quality) => only(person('ann', {}, { connectionQuality: ConnectionQuality[quality] })).quality);
    expect(shown).toEqual(['excellent', 'good', 'poor', 'lost', null]);
  });

  it('a shared screen has no connection of its own', () => {
    expect(only(person('ann', { [Track.Source.ScreenShare]: { trackSid: 'TR_s' } })).quality).toBeNull();
  });
});

function only(who: Person) {
  const [tile] = tilesOf(room(person('me', {}, { isLocal: true }), [who]));
  if (!tile) throw new Error('no tile');
  return tile;
}

function person(identity: string, publications: Publications = {}, more: Partial<Person> = {}): Person {
  const getTrackPublication = (source: Track.Source) => {
    const publication = publications[source];
    return publication && { trackSid: publication.trackSid, isMuted: publication.isMuted ?? false, track: publication.isReceived === false ? undefined : {} };
  };
  return {
    sid: `${identity}-sid`, identity, name: identity, isLocal: false, isSpeaking: false, isMicrophoneEnabled: true,
    connectionQuality: ConnectionQuality.Excellent, getTrackPublication, ...more,
  } as Person;
}

function room(localParticipant: Person, others: Person[]) {
  return { localParticipant, remoteParticipants: new Map(others.map((other) => [other.identity, other])) } as unknown as Parameters<typeof tilesOf>[0];
}
