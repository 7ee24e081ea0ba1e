// Access tokens as LiveKit's server SDKs mint them: a JWT signed with HS256 whose `video` claim carries the grants.

import { createHmac } from 'node:crypto';

export const DEV_KEY = 'devkey';
export const DEV_SECRET = 'secret';

/**
 * @param {{ room: string, identity: string, name?: string, metadata?: string, attributes?: Record<string, string>,
 *   grants?: Record<string, unknown>, key?: string, secret?: string, ttlSeconds?: number,
 *   kind?: string, roomConfig?: Record<string, unknown> }} claims
 */
export function mintToken(claims) {
  const { room, identity, key = DEV_KEY, secret = DEV_SECRET, ttlSeconds = 600 } = claims;
  const now = Math.floor(Date.now() / 1000);
  const payload = {
    iss: key,
    sub: identity,
    nbf: now - 10,
    exp: now + ttlSeconds,
    name: claims.name ?? identity,
    metadata: claims.metadata ?? '',
    attributes: claims.attributes ?? {},
    ...(claims.kind && { kind: claims.kind }),
    ...(claims.roomConfig && { roomConfig: claims.roomConfig }),
    video: { room, roomJoin: true, canPublish: true, canSubscribe: true, canPublishData: true, canUpdateOwnMetadata: true, ...claims.grants },
  };
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(payload)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** @param {unknown} value */
function base64url(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
