// The two server SDKs behind one face, so that a case runs with either. Answers hold what the cases look at.

import { AgentDispatchClient, DataPacket_Kind, RoomServiceClient } from 'livekit-server-sdk';
import { DEV_KEY, DEV_SECRET } from '../../e2e/lib/token.js';

/** @typedef {{ name: string, sid: string, metadata: string, maxParticipants: number, emptyTimeout: number, departureTimeout: number, participants: number }} RoomAnswer */
/** @typedef {{ identity: string, sid: string, name: string, metadata: string, attributes: Record<string, string>, canPublish: boolean, tracks: { sid: string, isMuted: boolean }[] }} ParticipantAnswer */
/** @typedef {{ name?: string, metadata?: string, attributes?: Record<string, string>, canPublish?: boolean }} ParticipantWish */

/** `livekit-server-sdk` of Node. Its methods are also those of `Api` in python_api.py. */
export class NodeApi {
  /** @param {string} url @param {string} [secret] */
  constructor(url, secret = DEV_SECRET) {
    this.rooms = new RoomServiceClient(url, DEV_KEY, secret);
    this.dispatches = new AgentDispatchClient(url, DEV_KEY, secret);
  }

  /** @param {{ name: string, metadata?: string, maxParticipants?: number, emptyTimeout?: number, departureTimeout?: number }} room */
  async createRoom(room) {
    return roomAnswer(await this.rooms.createRoom(room));
  }

  /** @param {string[]} names */
  async listRooms(names) {
    return (await this.rooms.listRooms(names)).map(roomAnswer);
  }

  /** @param {string} room */
  async deleteRoom(room) {
    await this.rooms.deleteRoom(room);
  }

  /** @param {string} room @param {string} metadata */
  async updateRoomMetadata(room, metadata) {
    return roomAnswer(await this.rooms.updateRoomMetadata(room, metadata));
  }

  /** @param {string} room */
  async listParticipants(room) {
    return (await this.rooms.listParticipants(room)).map(participantAnswer);
  }

  /** @param {string} room @param {string} identity */
  async getParticipant(room, identity) {
    return participantAnswer(await this.rooms.getParticipant(room, identity));
  }

  /** @param {string} room @param {string} identity */
  async removeParticipant(room, identity) {
    await this.rooms.removeParticipant(room, identity);
  }

  /** @param {string} room @param {string} identity @param {string} trackSid @param {boolean} isMuted */
  async mutePublishedTrack(room, identity, trackSid, isMuted) {
    const track = await this.rooms.mutePublishedTrack(room, identity, trackSid, isMuted);
    return { sid: track.sid, isMuted: track.muted };
  }

  /** @param {string} room @param {string} identity @param {ParticipantWish} wish */
  async updateParticipant(room, identity, { canPublish, ...wish }) {
    const permission = canPublish === undefined ? undefined : { canPublish, canSubscribe: true, canPublishData: true };
    return participantAnswer(await this.rooms.updateParticipant(room, identity, { ...wish, permission }));
  }

  /** @param {string} room @param {string} identity @param {string[]} trackSids @param {boolean} isSubscribed */
  async updateSubscriptions(room, identity, trackSids, isSubscribed) {
    await this.rooms.updateSubscriptions(room, identity, trackSids, isSubscribed);
  }

  /** @param {string} room @param {string} text @param {string} topic @param {string[]} destinationIdentities */
  async sendData(room, text, topic, destinationIdentities) {
    await this.rooms.sendData(room, new TextEncoder().encode(text), DataPacket_Kind.RELIABLE, { topic, destinationIdentities });
  }

  /** @param {string} room @param {string} identity @param {string} destinationRoom */
  async moveParticipant(room, identity, destinationRoom) {
    await this.rooms.moveParticipant(room, identity, destinationRoom);
  }

  /** @param {string} room @param {string} identity @param {string} destinationRoom */
  async forwardParticipant(room, identity, destinationRoom) {
    await this.rooms.forwardParticipant(room, identity, destinationRoom);
  }

  /** @param {string} room @param {string} agentName @param {string} metadata */
  async createDispatch(room, agentName, metadata) {
    return (await this.dispatches.createDispatch(room, agentName, { metadata })).id;
  }

  /** @param {string} room */
  async listDispatch(room) {
    return (await this.dispatches.listDispatch(room)).map(({ id, agentName, metadata }) => ({ id, agentName, metadata }));
  }

  /** @param {string} id @param {string} room */
  async deleteDispatch(id, room) {
    await this.dispatches.deleteDispatch(id, room);
  }
}

/** @param {import('livekit-server-sdk').Room} room @returns {RoomAnswer} */
function roomAnswer({ name, sid, metadata, maxParticipants, emptyTimeout, departureTimeout, numParticipants }) {
  return { name, sid, metadata, maxParticipants, emptyTimeout, departureTimeout, participants: numParticipants };
}

/** @param {import('livekit-server-sdk').ParticipantInfo} who @returns {ParticipantAnswer} */
function participantAnswer({ identity, sid, name, metadata, attributes, permission, tracks }) {
  return { identity, sid, name, metadata, attributes: { ...attributes }, canPublish: permission?.canPublish ?? false, tracks: tracks.map((track) => ({ sid: track.sid, isMuted: track.muted })) };
}
