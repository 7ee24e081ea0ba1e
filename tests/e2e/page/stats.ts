// The few numbers of `getStats` that tests assert on.

export interface InboundReport {
  mimeType: string;
  frameWidth: number;
  frameHeight: number;
  framesDecoded: number;
  framesDropped: number;
  keyFramesDecoded: number;
  freezeCount: number;
  totalFreezesDuration: number;
  packetsReceived: number;
  packetsLost: number;
  nackCount: number;
  pliCount: number;
  bytesReceived: number;
  concealedSamples: number;
  silentConcealedSamples: number;
  totalSamplesReceived: number;
  framesPerSecond: number;
  jitterBufferDelay: number;
  jitterBufferEmittedCount: number;
}

export interface OutboundLayer {
  rid: string;
  mimeType: string;
  frameWidth: number;
  frameHeight: number;
  framesEncoded: number;
  packetsSent: number;
  bytesSent: number;
  nackCount: number;
  pliCount: number;
  retransmittedPacketsSent: number;
  isActive: boolean;
}

type Entry = Record<string, string | number | boolean | undefined>;

/** The receiving side of one track. */
export function inboundReport(report: RTCStatsReport | undefined): InboundReport | null {
  const [entry] = entries(report, 'inbound-rtp');
  if (!report || !entry) return null;
  const count = (name: string): number => Number(entry[name] ?? 0);
  return {
    mimeType: codecOf(report, entry),
    frameWidth: count('frameWidth'),
    frameHeight: count('frameHeight'),
    framesDecoded: count('framesDecoded'),
    framesDropped: count('framesDropped'),
    keyFramesDecoded: count('keyFramesDecoded'),
    freezeCount: count('freezeCount'),
    totalFreezesDuration: count('totalFreezesDuration'),
    packetsReceived: count('packetsReceived'),
    packetsLost: count('packetsLost'),
    nackCount: count('nackCount'),
    pliCount: count('pliCount'),
    bytesReceived: count('bytesReceived'),
    concealedSamples: count('concealedSamples'),
    silentConcealedSamples: count('silentConcealedSamples'),
    totalSamplesReceived: count('totalSamplesReceived'),
    framesPerSecond: count('framesPerSecond'),
    jitterBufferDelay: count('jitterBufferDelay'),
    jitterBufferEmittedCount: count('jitterBufferEmittedCount'),
  };
}

/** The sending side of one track, one entry per simulcast layer, smallest first. */
export function outboundReport(report: RTCStatsReport | undefined): OutboundLayer[] {
  if (!report) return [];
  return entries(report, 'outbound-rtp')
    .map((entry) => ({
      rid: String(entry.rid ?? ''),
      mimeType: codecOf(report, entry),
      frameWidth: Number(entry.frameWidth ?? 0),
      frameHeight: Number(entry.frameHeight ?? 0),
      framesEncoded: Number(entry.framesEncoded ?? 0),
      packetsSent: Number(entry.packetsSent ?? 0),
      bytesSent: Number(entry.bytesSent ?? 0),
      nackCount: Number(entry.nackCount ?? 0),
      pliCount: Number(entry.pliCount ?? 0),
      retransmittedPacketsSent: Number(entry.retransmittedPacketsSent ?? 0),
      isActive: entry.active === true,
    }))
    .sort((a, b) => a.frameWidth - b.frameWidth);
}

/** The candidate pair that media takes: kinds of both ends, and how the client reaches its relay, if it has one. */
export interface PathReport {
  local: string;
  remote: string;
  relayProtocol: string;
  protocol: string;
}

/** The path of one connection. */
export function pathReport(report: RTCStatsReport): PathReport | null {
  const [transport] = entries(report, 'transport');
  const pair = report.get(String(transport?.selectedCandidatePairId)) as Entry | undefined;
  if (!pair) return null;
  const [local, remote] = [report.get(String(pair.localCandidateId)) as Entry | undefined, report.get(String(pair.remoteCandidateId)) as Entry | undefined];
  return {
    local: String(local?.candidateType ?? ''),
    remote: String(remote?.candidateType ?? ''),
    relayProtocol: String(local?.relayProtocol ?? ''),
    protocol: String(local?.protocol ?? ''),
  };
}

function entries(report: RTCStatsReport | undefined, type: string): Entry[] {
  const found: Entry[] = [];
  report?.forEach((entry: Entry) => {
    if (entry.type === type) found.push(entry);
  });
  return found;
}

function codecOf(report: RTCStatsReport, entry: Entry): string {
  const codec = report.get(String(entry.codecId)) as Entry | undefined;
  return String(codec?.mimeType ?? '');
}
