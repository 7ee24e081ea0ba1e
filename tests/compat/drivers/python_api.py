"""`livekit-api` with the methods of `NodeApi` in server_api.js; see there."""

from __future__ import annotations

from typing import Any

from livekit import api


class Api:
    """Calls the server's API; `open` says where it is."""

    def __init__(self) -> None:
        self._api: api.LiveKitAPI | None = None

    async def open(self, url: str, key: str, secret: str) -> None:
        self._api = api.LiveKitAPI(url, key, secret)

    async def leave(self) -> None:
        if self._api:
            await self._api.aclose()

    async def createRoom(self, room: dict[str, Any]) -> dict[str, Any]:
        names = {"name": "name", "metadata": "metadata", "maxParticipants": "max_participants", "emptyTimeout": "empty_timeout", "departureTimeout": "departure_timeout"}
        return _room(await self._room.create_room(api.CreateRoomRequest(**{names[name]: value for name, value in room.items()})))

    async def listRooms(self, names: list[str]) -> list[dict[str, Any]]:
        return [_room(room) for room in (await self._room.list_rooms(api.ListRoomsRequest(names=names))).rooms]

    async def deleteRoom(self, room: str) -> None:
        await self._room.delete_room(api.DeleteRoomRequest(room=room))

    async def updateRoomMetadata(self, room: str, metadata: str) -> dict[str, Any]:
        return _room(await self._room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=metadata)))

    async def listParticipants(self, room: str) -> list[dict[str, Any]]:
        return [_participant(who) for who in (await self._room.list_participants(api.ListParticipantsRequest(room=room))).participants]

    async def getParticipant(self, room: str, identity: str) -> dict[str, Any]:
        return _participant(await self._room.get_participant(api.RoomParticipantIdentity(room=room, identity=identity)))

    async def removeParticipant(self, room: str, identity: str) -> None:
        await self._room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))

    async def mutePublishedTrack(self, room: str, identity: str, track_sid: str, is_muted: bool) -> dict[str, Any]:
        track = (await self._room.mute_published_track(api.MuteRoomTrackRequest(room=room, identity=identity, track_sid=track_sid, muted=is_muted))).track
        return {"sid": track.sid, "isMuted": track.muted}

    async def updateParticipant(self, room: str, identity: str, wish: dict[str, Any]) -> dict[str, Any]:
        request = api.UpdateParticipantRequest(room=room, identity=identity, name=wish.get("name", ""), metadata=wish.get("metadata", ""), attributes=wish.get("attributes", {}))
        if "canPublish" in wish:
            request.permission.CopyFrom(api.ParticipantPermission(can_publish=wish["canPublish"], can_subscribe=True, can_publish_data=True))
        return _participant(await self._room.update_participant(request))

    async def updateSubscriptions(self, room: str, identity: str, track_sids: list[str], is_subscribed: bool) -> None:
        await self._room.update_subscriptions(api.UpdateSubscriptionsRequest(room=room, identity=identity, track_sids=track_sids, subscribe=is_subscribed))

    async def sendData(self, room: str, text: str, topic: str, destination_identities: list[str]) -> None:
        await self._room.send_data(api.SendDataRequest(room=room, data=text.encode(), topic=topic, destination_identities=destination_identities))

    async def moveParticipant(self, room: str, identity: str, destination_room: str) -> None:
        await self._room.move_participant(api.MoveParticipantRequest(room=room, identity=identity, destination_room=destination_room))

    async def forwardParticipant(self, room: str, identity: str, destination_room: str) -> None:
        await self._room.forward_participant(api.ForwardParticipantRequest(room=room, identity=identity, destination_room=destination_room))

    async def createDispatch(self, room: str, agent_name: str, metadata: str) -> str:
        return (await self._dispatch.create_dispatch(api.CreateAgentDispatchRequest(room=room, agent_name=agent_name, metadata=metadata))).id

    async def listDispatch(self, room: str) -> list[dict[str, Any]]:
        return [{"id": each.id, "agentName": each.agent_name, "metadata": each.metadata} for each in await self._dispatch.list_dispatch(room)]

    async def deleteDispatch(self, dispatch_id: str, room: str) -> None:
        await self._dispatch.delete_dispatch(dispatch_id, room)

    @property
    def _room(self) -> Any:
        assert self._api, "not open"
        return self._api.room

    @property
    def _dispatch(self) -> Any:
        assert self._api, "not open"
        return self._api.agent_dispatch


def _room(room: Any) -> dict[str, Any]:
    return {
        "name": room.name, "sid": room.sid, "metadata": room.metadata, "maxParticipants": room.max_participants,
        "emptyTimeout": room.empty_timeout, "departureTimeout": room.departure_timeout, "participants": room.num_participants,
    }  # fmt: skip


def _participant(who: Any) -> dict[str, Any]:
    tracks = [{"sid": track.sid, "isMuted": track.muted} for track in who.tracks]
    return {
        "identity": who.identity, "sid": who.sid, "name": who.name, "metadata": who.metadata, "attributes": dict(who.attributes),
        "canPublish": who.permission.can_publish, "tracks": tracks,
    }  # fmt: skip
