// What a participant sees and hears: reads the known picture back from a video element and a tone from an audio track.

import { read } from '../lib/picture.js';

const SAMPLE_WIDTH = 320;
const SAMPLE_HEIGHT = 180;
/** Frame numbers run modulo this; half of it decides "forward" from "back". */
const NUMBER_PERIOD = 0x10000;

export interface PictureReport {
  /** Ids of all pictures seen, normally one. */
  ids: number[];
  readable: number;
  unreadable: number;
  /** Frames whose number was before the one shown before. */
  backward: number;
  /** The largest such step. */
  backwardBy: number;
  /** Frames that showed the same number again. */
  repeated: number;
  lastNumber: number;
  /** Sizes in the order in which they were first seen, as "320x180". */
  sizes: string[];
  size: string;
  longestGapMs: number;
  /** Time since the newest frame; 0 before the first one since the reset. */
  sinceLastMs: number;
  /** `performance.now()` of the first readable frame since the reader was made. */
  firstAt: number;
}

export class PictureReader {
  readonly #canvas = new OffscreenCanvas(SAMPLE_WIDTH, SAMPLE_HEIGHT);
  readonly #draw: OffscreenCanvasRenderingContext2D;
  #report: PictureReport = emptyReport();
  #lastShownAt = 0;

  constructor(readonly video: HTMLVideoElement) {
    const draw = this.#canvas.getContext('2d', { willReadFrequently: true });
    if (!draw) throw new Error('no 2d canvas');
    this.#draw = draw;
    this.#next();
  }

  report(): PictureReport {
    const sinceLastMs = this.#lastShownAt > 0 ? Math.round(performance.now() - this.#lastShownAt) : 0;
    return { ...this.#report, sinceLastMs };
  }

  /** Starts counting anew; the frame number and the first frame's time are kept. */
  reset(): void {
    const { lastNumber, firstAt } = this.#report;
    this.#report = { ...emptyReport(), lastNumber, firstAt };
    this.#lastShownAt = 0;
  }

  #next(): void {
    this.video.requestVideoFrameCallback((now, frame) => {
      this.#take(now, frame.width, frame.height);
      this.#next();
    });
  }

  #take(now: number, width: number, height: number): void {
    const report = this.#report;
    if (this.#lastShownAt > 0) report.longestGapMs = Math.max(report.longestGapMs, Math.round(now - this.#lastShownAt));
    this.#lastShownAt = now;
    report.size = `${width}x${height}`;
    if (!report.sizes.includes(report.size)) report.sizes.push(report.size);
    this.#draw.drawImage(this.video, 0, 0, SAMPLE_WIDTH, SAMPLE_HEIGHT);
    const { data } = this.#draw.getImageData(0, 0, SAMPLE_WIDTH, SAMPLE_HEIGHT);
    const lumaAt = (x: number, y: number): number => {
      const at = (y * SAMPLE_WIDTH + x) * 4;
      return ((data[at] ?? 0) * 77 + (data[at + 1] ?? 0) * 150 + (data[at + 2] ?? 0) * 29) >> 8;
    };
    const caption = read(lumaAt, SAMPLE_WIDTH, SAMPLE_HEIGHT);
    if (!caption) {
      report.unreadable += 1;
      return;
    }
    if (report.firstAt === 0) report.firstAt = performance.now();
    report.readable += 1;
    if (!report.ids.includes(caption.id)) report.ids.push(caption.id);
    const step = (caption.number - report.lastNumber + NUMBER_PERIOD) % NUMBER_PERIOD;
    if (report.lastNumber >= 0 && step === 0) report.repeated += 1;
    if (report.lastNumber >= 0 && step > NUMBER_PERIOD / 2) {
      report.backward += 1;
      report.backwardBy = Math.max(report.backwardBy, NUMBER_PERIOD - step);
    }
    report.lastNumber = caption.number;
  }
}

function emptyReport(): PictureReport {
  return { ids: [], readable: 0, unreadable: 0, backward: 0, backwardBy: 0, repeated: 0, lastNumber: -1, sizes: [], size: '', longestGapMs: 0, sinceLastMs: 0, firstAt: 0 };
}

/** The strongest frequency of an audio track, as heard in the last fraction of a second. */
export class ToneReader {
  readonly #analyser: AnalyserNode;
  readonly #source: MediaStreamAudioSourceNode;
  readonly #spectrum: Float32Array<ArrayBuffer>;

  constructor(
    readonly context: AudioContext,
    track: MediaStreamTrack,
  ) {
    this.#analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
    this.#source = new MediaStreamAudioSourceNode(context, { mediaStream: new MediaStream([track]) });
    this.#source.connect(this.#analyser);
    this.#spectrum = new Float32Array(this.#analyser.frequencyBinCount);
  }

  /** The peak's frequency and its level; silence is below -90 dB. */
  report(): { hz: number; db: number } {
    this.#analyser.getFloatFrequencyData(this.#spectrum);
    let peak = 0;
    this.#spectrum.forEach((level, bin) => {
      if (level > (this.#spectrum[peak] ?? -Infinity)) peak = bin;
    });
    const binHz = this.context.sampleRate / this.#analyser.fftSize;
    const db = this.#spectrum[peak] ?? -Infinity;
    return { hz: Math.round(peak * binHz), db: Number.isFinite(db) ? Math.round(db) : -200 };
  }

  close(): void {
    this.#source.disconnect();
  }
}
