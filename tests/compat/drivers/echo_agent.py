"""A minimal LiveKit agent: plays back what it hears and repeats what it reads. Runs until it is told to stop (SIGTERM).

Argument: the agent's name for explicit dispatch; empty for automatic dispatch to every new room.
Prints "registered" when the server has taken the worker.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from livekit import agents, rtc
from livekit.agents import AgentServer, JobContext, JobExecutorType, WorkerOptions

SAMPLE_RATE_HZ = 48_000
CHUNK_MS = 20


async def entrypoint(job: JobContext) -> None:
    """One room."""
    tasks: set[asyncio.Task[None]] = set()

    def start(work) -> None:  # noqa: ANN001
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    source = rtc.AudioSource(SAMPLE_RATE_HZ, 1)

    async def play_back(track: rtc.Track) -> None:
        async for event in rtc.AudioStream(track, sample_rate=SAMPLE_RATE_HZ, num_channels=1, frame_size_ms=CHUNK_MS):
            await source.capture_frame(event.frame)

    @job.room.on("track_subscribed")
    def _(track: rtc.Track, _publication: rtc.RemoteTrackPublication, _who: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            start(play_back(track))

    async def repeat(reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        await job.room.local_participant.send_text(f"{identity} wrote: {text}; the job says: {job.job.metadata}", topic="echo")

    job.room.register_text_stream_handler("letters", lambda reader, identity: start(repeat(reader, identity)))
    await job.connect()
    track = rtc.LocalAudioTrack.create_audio_track("echo", source)
    await job.room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))


async def main(agent_name: str) -> None:
    """Serves jobs as LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET say."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # A busy machine would make the worker say that it has no time.
    options = WorkerOptions(entrypoint_fnc=entrypoint, agent_name=agent_name, job_executor_type=JobExecutorType.THREAD, host="127.0.0.1", load_fnc=lambda: 0.0)
    server = AgentServer.from_server_options(options)
    server.on("worker_registered", lambda *_: print("registered", flush=True))
    await server.run(devmode=True)


if __name__ == "__main__":
    assert agents.__version__
    asyncio.run(main(sys.argv[1]))
