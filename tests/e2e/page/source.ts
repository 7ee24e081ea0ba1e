// What a participant publishes: the known picture and a known tone, made in the page.

import { paint } from '../lib/picture.js';

/** A video track whose frames carry `id` and an increasing number. */
export class PictureSource {
  readonly track: MediaStreamTrack;
  readonly #show: (i420: Uint8Array) => void;
  readonly #clock: Worker;
  readonly #i420: Uint8Array;
  #number = 0;

  constructor(
    readonly id: number,
    readonly width: number,
    readonly height: number,
    fps: number,
  ) {
    const { track, show } = 'MediaStreamTrackGenerator' in globalThis ? generated(width, height) : drawn(width, height);
    this.track = track;
    this.#show = show;
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
    this.#show(this.#i420);
  }
}

interface Screen {
  track: MediaStreamTrack;
  show(i420: Uint8Array): void;
}

/** Chromium takes frames as they are. */
function generated(width: number, height: number): Screen {
  const track = new MediaStreamTrackGenerator({ kind: 'video' });
  const writer = track.writable.getWriter();
  return {
    track,
    show(i420) {
      const frame = new VideoFrame(i420 as Uint8Array<ArrayBuffer>, { format: 'I420', codedWidth: width, codedHeight: height, timestamp: performance.now() * 1000 });
      writer.write(frame).catch(() => frame.close());
    },
  };
}

/** Elsewhere a canvas shows the grey part of them. */
function drawn(width: number, height: number): Screen {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const draw = canvas.getContext('2d');
  const [track] = canvas.captureStream().getVideoTracks();
  if (!draw || !track) throw new Error('no canvas to capture');
  const image = draw.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const opaque = 0xff000000;
  return {
    track,
    show(i420) {
      for (let at = 0; at < pixels.length; at += 1) pixels[at] = opaque | ((i420[at] ?? 0) * 0x010101);
      draw.putImageData(image, 0, 0);
    },
  };
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
