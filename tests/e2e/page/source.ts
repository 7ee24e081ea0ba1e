// What a participant publishes: the known picture and a known tone, made in the page.

import { paint } from '../lib/picture.js';

/** A video track whose frames carry `id` and an increasing number. */
export class PictureSource {
  readonly track: MediaStreamTrack;
  readonly #writer: WritableStreamDefaultWriter<VideoFrame>;
  readonly #clock: Worker;
  readonly #i420: Uint8Array;
  #number = 0;

  constructor(
    readonly id: number,
    readonly width: number,
    readonly height: number,
    fps: number,
  ) {
    const generator = new MediaStreamTrackGenerator({ kind: 'video' });
    this.track = generator;
    this.#writer = generator.writable.getWriter();
    this.#i420 = new Uint8Array((width * height * 3) / 2);
    // A worker's timer keeps its rate where the page's own is throttled.
    this.#clock = new Worker(URL.createObjectURL(new Blob([`setInterval(() => postMessage(0), ${1000 / fps})`])));
    this.#clock.onmessage = () => this.#tick();
  }

  /** Asks the track for its size once; `livekit-client` chooses the simulcast layers from it. */
  async ready(): Promise<void> {
    const probe = document.createElement('video');
    probe.muted = true;
    probe.srcObject = new MediaStream([this.track]);
    await probe.play();
    probe.srcObject = null;
  }

  stop(): void {
    this.#clock.terminate();
    this.track.stop();
  }

  #tick(): void {
    const { width, height } = this;
    paint(this.#i420, width, height, this.id, this.#number % 0x10000);
    this.#number += 1;
    const frame = new VideoFrame(this.#i420, { format: 'I420', codedWidth: width, codedHeight: height, timestamp: performance.now() * 1000 });
    this.#writer.write(frame).catch(() => frame.close());
  }
}

/** An audio track with one sine tone. */
export function toneTrack(context: AudioContext, frequencyHz: number): MediaStreamTrack {
  const oscillator = new OscillatorNode(context, { frequency: frequencyHz });
  const output = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  oscillator.connect(new GainNode(context, { gain: 0.5 })).connect(output);
  oscillator.start();
  const [track] = output.stream.getAudioTracks();
  if (!track) throw new Error('the destination node has no track');
  return track;
}
