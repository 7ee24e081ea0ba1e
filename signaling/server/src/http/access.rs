//! Who asks: the token of a request, whether it is genuine, and whether it is still good.
//!
//! In: headers, and what the query holds where tokens may be in it. Out: [`Grants`], or why there are none. What they allow is for
//! the handlers to say.

use axum::http::{HeaderMap, header};
use signaling_api::Grants;

use super::problem::Refused;
use super::{ANSWER_TIME, App};
use crate::auth::{self, AuthError};
use crate::unix_now;
use crate::ws::ToLoop;

/// Of a genuine token. The header wins, as in LiveKit's server. Whether it was revoked is for the rooms to say, before they do anything.
pub(crate) fn genuine(app: &App, headers: &HeaderMap, in_query: Option<&str>) -> Result<Grants, AuthError> {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    auth::verify(&app.config.keys, auth::find_token(authorization, in_query)?, unix_now())
}

/// Of a token that is genuine and still good: for what is answered without the rooms.
pub(crate) async fn good(app: &App, headers: &HeaderMap) -> Result<Grants, Refused> {
    let grants = genuine(app, headers, None)?;
    let asked = Box::new(grants.clone());
    match app.ask(ANSWER_TIME, |reply| ToLoop::Verify { grants: asked, reply }).await? {
        Ok(()) => Ok(grants),
        Err(code) => Err(Refused::new(code, code.message())),
    }
}

/// The token in a query.
pub(crate) fn token_in(query: Option<&str>) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == "access_token").map(|(_, token)| token.into_owned())
}
