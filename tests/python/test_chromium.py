"""Native SDK and Chromium in one room."""

from __future__ import annotations

import asyncio

import pytest
from livekit import rtc

from picture import STEP_BACK_LIMIT
from waiting import until

CODECS = {"vp8": rtc.VideoCodec.VP8, "h264": rtc.VideoCodec.H264}


@pytest.mark.parametrize("codec", CODECS)
async def test_chromium_and_a_native_participant_see_and_hear_each_other(peer, page, codec):
    native, chromium = peer("native"), await page("chromium")
    await asyncio.gather(native.join(), chromium.join())
    await asyncio.gather(
        native.publish_picture(21, codec=CODECS[codec]),
        native.publish_tone(440),
        chromium.lab("publishPicture", {"id": 22, "options": {"videoCodec": codec}}),
        chromium.lab("publishTone", 660),
    )
    await asyncio.gather(chromium.sees("native", 21), chromium.hears("native", 440), native.sees("chromium", 22), native.hears("chromium", 660))
    received = await chromium.lab("received", "native", "camera")
    assert received["mimeType"].lower() == f"video/{codec}"


async def test_data_goes_between_chromium_and_a_native_participant(peer, page):
    native, chromium = peer("native"), await page("chromium")
    await asyncio.gather(native.join(), chromium.join())
    await until("they see each other", lambda: native.remote("chromium"))

    async def arrives_in_chromium() -> bool:
        await native.room.local_participant.publish_data("to chromium", reliable=True)
        return any(m["text"] == "to chromium" and m["from"] == "native" for m in await chromium.lab("messages"))

    async def arrives_natively() -> bool:
        await chromium.lab("send", "to native", {"reliable": True})
        return any(m.data == b"to native" for m in native.messages)

    await until("chromium has it", arrives_in_chromium, poll_s=0.2)
    await until("the native side has it", arrives_natively, poll_s=0.2)


async def test_a_native_simulcast_track_reaches_chromium_in_all_sizes(peer, page):
    native, chromium = peer("native"), await page("chromium")
    await asyncio.gather(native.join(), chromium.join())
    await native.publish_picture(23, width=960, height=540, simulcast=True)
    await chromium.sees("native", 23, step_back_limit=STEP_BACK_LIMIT)
    for quality, is_wanted in (("LOW", lambda width: width <= 480), ("HIGH", lambda width: width == 960)):
        await chromium.lab("setQuality", "native", quality)

        async def arrives(is_wanted=is_wanted) -> bool:
            return is_wanted(int((await chromium.lab("picture", "native"))["size"].split("x")[0]))

        await until(f"{quality} arrives", arrives, within_s=30)
        await chromium.sees("native", 23, step_back_limit=STEP_BACK_LIMIT)
