// What the table of docs/compatibility.md holds: rows (features), columns (SDKs or pairs of them), and the cells that no
// case of this suite proves, each with its reason. Cells that a case proves are not named here: the case names them.

/**
 * @typedef {{ id: string, title: string }} Column
 * @typedef {{ id: string, title: string, works: string }} Row `works`: what counts as working
 * @typedef {{ id: string, title: string, text: string, columns: Column[], rows: Row[] }} Section
 * @typedef {{ kind: 'elsewhere', file: string, test: string } | { kind: 'not applicable', why: string } | { kind: 'does not work', why: string }} Note
 */

/** Proven by a test of another suite: the file (from the root) holds that text. @param {string} file @param {string} test @returns {Note} */
export const elsewhere = (file, test) => ({ kind: 'elsewhere', file, test });
/** @param {string} why @returns {Note} */
export const notApplicable = (why) => ({ kind: 'not applicable', why });
/** @param {string} why with the issue @returns {Note} */
export const doesNotWork = (why) => ({ kind: 'does not work', why });

const CLIENTS = [
  { id: 'chromium', title: 'livekit-client, Chromium' },
  { id: 'firefox', title: 'livekit-client, Firefox' },
  { id: 'python', title: 'Python livekit' },
  { id: 'node', title: 'Node rtc-node' },
];

const PAIRS = [
  { id: 'chromium>chromium', title: 'Chromium to Chromium' },
  { id: 'chromium>firefox', title: 'Chromium to Firefox' },
  { id: 'chromium>python', title: 'Chromium to Python' },
  { id: 'chromium>node', title: 'Chromium to Node' },
  { id: 'firefox>chromium', title: 'Firefox to Chromium' },
  { id: 'firefox>python', title: 'Firefox to Python' },
  { id: 'python>chromium', title: 'Python to Chromium' },
  { id: 'python>firefox', title: 'Python to Firefox' },
  { id: 'node>chromium', title: 'Node to Chromium' },
];

const SERVER_SDKS = [
  { id: 'server-node', title: 'livekit-server-sdk (Node)' },
  { id: 'server-python', title: 'livekit-api (Python)' },
];

/** @type {Section[]} */
export const SECTIONS = [
  {
    id: 'codecs',
    title: 'Codecs',
    text: 'Every video frame carries an id and a number that the subscriber reads back; every microphone plays a tone of its own.',
    columns: PAIRS,
    rows: [
      { id: 'vp8', title: 'VP8', works: 'the picture moves and is the right one; the subscriber decodes VP8' },
      { id: 'h264', title: 'H.264', works: 'the same in H.264' },
      { id: 'vp9', title: 'VP9', works: 'the same in VP9' },
      { id: 'av1', title: 'AV1', works: 'the same in AV1' },
      { id: 'h265', title: 'H.265', works: 'the same in H.265' },
      { id: 'opus', title: 'Opus', works: 'the tone is heard' },
      { id: 'red', title: 'Opus with redundancy (RED)', works: 'the track is announced as RED and the tone is heard, also where RED is not taken; the copies themselves: `tests/e2e/codecs.test.js`' },
      { id: 'pcmu', title: 'PCMU', works: 'the tone is heard; the subscriber decodes PCMU' },
      { id: 'pcma', title: 'PCMA', works: 'the same in PCMA' },
    ],
  },
  {
    id: 'clients',
    title: 'Client SDKs',
    text: 'Unless the row says otherwise, the client of the column does it to, or has it from, every other client of the table.',
    columns: CLIENTS,
    rows: [
      { id: 'participants', title: 'Participants come and go', works: 'is told who joins and who leaves' },
      { id: 'metadata', title: 'Name, metadata, attributes', works: 'sets its own; sees those of others' },
      { id: 'speakers', title: 'Active speakers', works: 'is told when somebody speaks and stops' },
      { id: 'quality', title: 'Connection quality', works: 'is told its own and that of others' },
      { id: 'mute', title: 'Mute and unmute', works: 'the others are told, hear nothing, hear again' },
      { id: 'unpublish', title: 'Unpublish', works: 'the track is gone for the others' },
      { id: 'subscription', title: 'Subscribe and unsubscribe', works: 'nothing comes unasked; the picture starts, stops and starts again' },
      { id: 'token-grants', title: 'Grants of the token', works: 'who may not publish, subscribe or send data does not' },
      { id: 'subscription-permissions', title: 'Subscription permissions', works: 'only the chosen participant sees the track, until all may' },
      { id: 'data-reliable', title: 'Reliable data packets', works: 'with topic, both ways' },
      { id: 'data-lossy', title: 'Lossy data packets', works: 'with topic, both ways' },
      { id: 'data-destination', title: 'Data for one participant', works: 'nobody else gets it' },
      { id: 'rpc-call', title: 'RPC: calls', works: 'answer, error of the method, error for an unknown method' },
      { id: 'rpc-serve', title: 'RPC: answers', works: 'the same from the other side' },
      { id: 'text-stream', title: 'Text streams', works: 'short and 69 kB, with attributes, both ways' },
      { id: 'byte-stream', title: 'Byte streams', works: 'a megabyte arrives intact, both ways' },
      { id: 'data-track', title: 'Data tracks', works: 'frames of one and of many packets, both ways' },
      { id: 'transcription-send', title: 'Transcription: send', works: 'the others show what an agent sends; from others the server takes none' },
      { id: 'transcription-receive', title: 'Transcription: receive', works: 'text and speaker' },
      { id: 'simulcast-send', title: 'Simulcast: send', works: 'a subscriber gets the smallest and the largest size' },
      { id: 'simulcast-receive', title: 'Simulcast: choose', works: 'gets the size that it asks for by quality' },
      { id: 'dimensions', title: 'Choose by size', works: 'gets the encoding that fits the size on its screen' },
      { id: 'pause', title: 'Pause a subscription', works: 'the picture stands still, then moves again' },
      { id: 'svc-vp9', title: 'VP9 L3T3_KEY of Chromium', works: 'three sizes from one stream, each a part of its packets, the smaller at a lower bitrate' },
      { id: 'svc-av1', title: 'AV1 L3T3_KEY of Chromium', works: 'three sizes from one stream, each a part of its packets' },
      { id: 'e2ee-send', title: 'End-to-end encryption: send', works: 'VP8 and Opus (Chromium: H.264 too) are seen and heard with the key' },
      { id: 'e2ee-receive', title: 'End-to-end encryption: receive', works: 'the same from the other side' },
      { id: 'e2ee-key', title: 'End-to-end encryption: wrong key', works: 'nothing is seen with a wrong key or none, all with the right one' },
      { id: 'e2ee-simulcast', title: 'End-to-end encryption: simulcast', works: 'sizes switch without a damaged frame' },
      { id: 'e2ee-data', title: 'End-to-end encryption: data', works: 'packets and streams both ways; nothing is read without the key' },
      { id: 'single-pc', title: 'One peer connection', works: 'a call both ways over `/rtc/v1`' },
      { id: 'dual-pc', title: 'A peer connection per direction', works: 'the same over `/rtc`' },
      { id: 'relay-only', title: 'Relay only', works: 'a call both ways of a client that may use nothing but TURN' },
      { id: 'signal-reconnect', title: 'Resume', works: 'the signaling is cut: same session, picture and data go on' },
      { id: 'full-reconnect', title: 'Full reconnect', works: 'everything anew: picture and data are back' },
    ],
  },
  {
    id: 'server',
    title: 'Server SDKs',
    text: 'Each call is made on a room with real clients in it, and its effect is read from them.',
    columns: SERVER_SDKS,
    rows: [
      { id: 'create-room', title: 'Create room', works: 'with metadata, limit and timeouts; the limit holds' },
      { id: 'list-rooms', title: 'List rooms', works: 'by name; none for a name that is not there' },
      { id: 'room-metadata', title: 'Update room metadata', works: 'clients see it' },
      { id: 'delete-room', title: 'Delete room', works: 'clients are out; the room is gone' },
      { id: 'list-participants', title: 'List participants', works: 'all of the room' },
      { id: 'get-participant', title: 'Get participant', works: 'with rights and tracks' },
      { id: 'update-participant', title: 'Update participant', works: 'name, metadata, attributes; all clients see them' },
      { id: 'update-permission', title: 'Update permission', works: 'who may publish no longer loses its tracks' },
      { id: 'remove-participant', title: 'Remove participant', works: 'it is out, the others see it' },
      { id: 'mute-track', title: 'Mute published track', works: 'all clients are told and hear nothing' },
      { id: 'update-subscriptions', title: 'Update subscriptions', works: 'the picture goes and comes back' },
      { id: 'send-data', title: 'Send data', works: 'to all and to one, with topic' },
      { id: 'move-participant', title: 'Move participant', works: 'it sees and is seen in the other room' },
      { id: 'api-errors', title: 'Errors', works: 'wrong secret, unknown participant' },
      { id: 'dispatch', title: 'Agent dispatch', works: 'create, list, delete' },
    ],
  },
  {
    id: 'agents',
    title: 'Agents',
    text: 'An echo agent on `livekit-agents`, without any model: it plays back what it hears and repeats what it reads.',
    columns: [{ id: 'agents', title: 'livekit-agents (Python)' }],
    rows: [
      { id: 'agent-dispatch', title: 'Explicit dispatch', works: 'joins when dispatched, with the metadata of the job; leaves with the dispatch' },
      { id: 'agent-token', title: 'Dispatch by token', works: 'joins the room that a participant opens whose token names it' },
      { id: 'agent-automatic', title: 'Automatic dispatch', works: 'joins every new room' },
      { id: 'agent-echo', title: 'Conversation', works: 'the tone and the text come back' },
    ],
  },
];

const NO_H264 = notApplicable('Firefox takes its H.264 from a plug-in that it downloads; the test machine has none');

const NO_H265 = notApplicable('no client here encodes H.265; `sfu/sim/tests/engine/layers.rs` forwards it between simulated ones');
const FIREFOX_SENDS_VP8 = notApplicable('livekit-client publishes neither VP9 nor AV1 in Firefox');
const NO_RED = notApplicable('Firefox has no redundancy');
const NO_G711 = notApplicable('the SDK publishes Opus only; Chromium is told by its own WebRTC interface to offer nothing but G.711');

/** One note for many cells of a row. @param {string} row @param {Column[]} columns @param {(column: string) => Note | null} note */
function rowOf(row, columns, note) {
  return Object.fromEntries(columns.flatMap(({ id }) => {
    const one = note(id);
    return one ? [[`${row}@${id}`, one]] : [];
  }));
}

/** @type {Record<string, Note>} */
export const NOTES = {
  ...rowOf('h265', PAIRS, () => NO_H265),
  ...rowOf('vp9', PAIRS, (pair) => (pair.startsWith('firefox') ? FIREFOX_SENDS_VP8 : null)),
  ...rowOf('av1', PAIRS, (pair) => (pair.startsWith('firefox') ? FIREFOX_SENDS_VP8 : null)),
  ...rowOf('red', PAIRS, (pair) => (pair.startsWith('firefox') ? NO_RED : null)),
  ...rowOf('pcmu', PAIRS, (pair) => (pair.startsWith('chromium') ? null : NO_G711)),
  ...rowOf('pcma', PAIRS, (pair) => (pair.startsWith('chromium') ? null : NO_G711)),
  'h264@chromium>firefox': NO_H264,
  'h264@firefox>chromium': NO_H264,
  'h264@firefox>python': NO_H264,
  'h264@python>firefox': NO_H264,
  'mute@node': notApplicable('the SDK has no call for it'),
  'subscription-permissions@node': notApplicable('the SDK has no call for it'),
  'data-track@node': notApplicable('the SDK has no data tracks'),
  'transcription-send@chromium': notApplicable('the SDK has no call for it; it sends transcriptions as text streams'),
  'transcription-send@firefox': notApplicable('the SDK has no call for it; it sends transcriptions as text streams'),
  'simulcast-receive@node': notApplicable('the SDK has no call to choose a size'),
  'dimensions@python': notApplicable('the SDK has no call for it'),
  'dimensions@node': notApplicable('the SDK has no call for it'),
  'pause@python': notApplicable('the SDK has no call for it'),
  'pause@node': notApplicable('the SDK has no call for it'),
  'svc-vp9@node': notApplicable('the SDK has no call to choose a size'),
  'svc-av1@node': notApplicable('the SDK has no call to choose a size'),
  'e2ee-simulcast@node': notApplicable('the SDK has no call to choose a size'),
  'e2ee-key@firefox': notApplicable('one client shows what the server can do about it: nothing'),
  'e2ee-key@python': notApplicable('one client shows what the server can do about it: nothing'),
  'e2ee-key@node': notApplicable('one client shows what the server can do about it: nothing'),
  'single-pc@node': notApplicable('the SDK has no option for it'),
  'relay-only@chromium': elsewhere('tests/e2e/relay.test.js', 'two participants who may use relays only see and hear each other'),
  'relay-only@python': elsewhere('tests/python/test_turn.py', 'test_the_relay_drains_with_the_server_and_is_open_to_who_has_a_seat'),
  'relay-only@node': notApplicable('the client says it as those of other SDKs do'),
  'dual-pc@node': notApplicable('the SDK has no option for it'),
  'transcription-receive@node': notApplicable('the SDK has no event for it; it takes transcriptions as text streams'),
};

/** Every cell of the table, in its order. */
export function allCells() {
  return SECTIONS.flatMap(({ rows, columns }) => rows.flatMap((row) => columns.map((column) => `${row.id}@${column.id}`)));
}
