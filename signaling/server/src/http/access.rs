//! Who asks: the token of a request, whether it is genuine, and whether it is still good.
//!
//! In: headers, and what the query holds where tokens may be in it. Out: [`Grants`], or why there are none. What they allow is for
//! the handlers to say.

use std::time::Instant;

use axum::http::{HeaderMap, header};
use signaling_api::{ErrorCode, Grants};

use super::problem::Refused;
use super::{ANSWER_TIME, App};
use crate::auth::{self, AuthError};
use crate::net::TcpPeer;
use crate::unix_now;
use crate::ws::ToLoop;

/// Of a genuine token. The header wins, as in LiveKit's server. Whether it was revoked is for the rooms to say, before they do anything.
pub(crate) fn genuine(app: &App, headers: &HeaderMap, in_query: Option<&str>) -> Result<Grants, AuthError> {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    auth::verify(&app.config.keys, auth::find_token(authorization, in_query)?, unix_now())
}

/// Of a token that is genuine and still good, if its address has not asked too often: for what is answered without the rooms.
pub(crate) async fn good(app: &App, peer: TcpPeer, headers: &HeaderMap) -> Result<Grants, Refused> {
    // the rooms have to be asked, and who asks without end would keep them from their work
    app.quota.address(app.client_ip(peer, headers), Instant::now())?;
    let grants = genuine(app, headers, None)?;
    let asked = Box::new(grants.clone());
    match app.ask(ANSWER_TIME, |reply| ToLoop::Verify { grants: asked, reply }).await? {
        Ok(()) => Ok(grants),
        Err(code) => Err(Refused::new(code, code.message())),
    }
}

/// The same for what only administrators may ask, whose keys are counted too. That it is an administrator's token is for the handler to
/// say.
pub(crate) async fn counted(app: &App, peer: TcpPeer, headers: &HeaderMap) -> Result<Grants, Refused> {
    let grants = good(app, peer, headers).await?;
    let is_participants = !(grants.room_create || grants.room_list || grants.room_admin);
    // One who may not ask at all uses nothing up that is an administrator's.
    if !is_participants && let Err(wait) = app.quota.key(&grants, Instant::now()) {
        return Err(Refused::new(ErrorCode::RateLimited, "too many requests with this API key").retry_after(wait));
    }
    Ok(grants)
}

/// The token in a query.
pub(crate) fn token_in(query: Option<&str>) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == "access_token").map(|(_, token)| token.into_owned())
}
