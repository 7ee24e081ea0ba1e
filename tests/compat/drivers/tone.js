// The strongest frequency in a piece of sound.

/** Quieter than this is silence. */
const SILENCE = 0.01;

/**
 * Looks at every 10 Hz from 200 to 1,200 Hz, where the tests' tones are (Goertzel's algorithm); null for silence.
 * @param {Float32Array} samples from -1 to 1 @param {number} sampleRateHz
 */
export function strongestTone(samples, sampleRateHz) {
  let [best, hz] = [0, 0];
  for (let frequency = 200; frequency <= 1200; frequency += 10) {
    const factor = 2 * Math.cos((2 * Math.PI * frequency) / sampleRateHz);
    let [one, two] = [0, 0];
    for (const sample of samples) [one, two] = [sample + factor * one - two, one];
    const level = (2 * Math.sqrt(Math.max(0, one * one + two * two - factor * one * two))) / samples.length;
    if (level > best) [best, hz] = [level, frequency];
  }
  return best > SILENCE ? { hz, db: 20 * Math.log10(best) } : null;
}
