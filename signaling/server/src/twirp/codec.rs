//! Twirp bodies: protobuf, or protobuf's JSON form with the names of the `.proto` files and with unset fields spelled out,
//! as Twirp's Go server writes it.
//!
//! The JSON that comes in may have either spelling of names; unknown fields are skipped, `null` is an unset field.

use std::fmt::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::errors::TwirpError;

/// Form of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Protobuf,
    Json,
}

impl Form {
    /// From the media type, whatever its parameters.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        [("application/protobuf", Self::Protobuf), ("application/json", Self::Json)]
            .into_iter()
            .find(|(name, _)| kind.eq_ignore_ascii_case(name))
            .map(|(_, form)| form)
    }

    pub(crate) fn decode<M: prost::Message + Default + DeserializeOwned>(self, body: &[u8]) -> Result<M, TwirpError> {
        match self {
            Self::Protobuf => M::decode(body).map_err(|_| TwirpError::malformed("the protobuf request could not be decoded")),
            Self::Json => {
                let malformed = |error: serde_json::Error| TwirpError::malformed(format!("the json request could not be decoded: {error}"));
                let mut value = serde_json::from_slice(body).map_err(malformed)?;
                drop_nulls(&mut value);
                serde_json::from_value(value).map_err(malformed)
            }
        }
    }

    pub(crate) fn encode<M: prost::Message + Serialize + Named>(self, message: &M) -> Response {
        let (kind, body) = match self {
            Self::Protobuf => ("application/protobuf", Bytes::from(message.encode_to_vec())),
            Self::Json => {
                let value = serde_json::to_value(message).unwrap_or_default();
                ("application/json", Bytes::from(spelled_out(value, M::FIELDS).to_string()))
            }
        };
        let headers =
            [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (StatusCode::OK, headers, body).into_response()
    }
}

/// A message whose JSON form is known here field by field.
pub(crate) trait Named {
    const FIELDS: &'static [Field];
}

/// Name of a field as in the `.proto` file, and what it is.
pub(crate) type Field = (&'static str, Kind);

/// What a field is, as far as its JSON form needs it.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Number,
    /// 64 bits, written as text.
    Long,
    Flag,
    /// With the name of 0.
    Choice(&'static str),
    /// `null` if it is not there.
    Message(&'static [Field]),
    Messages(&'static [Field]),
    /// A list of plain values.
    Values,
    /// Whose keys are data, not names.
    Pairs,
}

/// The same with the names of the `.proto` files, and with what is not set.
fn spelled_out(value: Value, fields: &[Field]) -> Value {
    let Value::Object(mut given) = value else { return value };
    let mut whole = Map::new();
    for (name, kind) in fields {
        let found = given.remove(&camel(name));
        let value = match (kind, found) {
            (Kind::Message(fields), Some(value)) => spelled_out(value, fields),
            (Kind::Messages(fields), Some(Value::Array(items))) => items.into_iter().map(|item| spelled_out(item, fields)).collect(),
            (_, Some(value)) => value,
            (Kind::Text, None) => json!(""),
            (Kind::Number, None) => json!(0),
            (Kind::Long, None) => json!("0"),
            (Kind::Flag, None) => json!(false),
            (Kind::Choice(first), None) => json!(first),
            (Kind::Message(_), None) => Value::Null,
            (Kind::Messages(_) | Kind::Values, None) => json!([]),
            (Kind::Pairs, None) => json!({}),
        };
        whole.insert((*name).to_owned(), value);
    }
    // a field that is newer than the tables here
    for (name, value) in given {
        whole.insert(snake(&name), value);
    }
    Value::Object(whole)
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, letter| {
        let _ = if letter.is_ascii_uppercase() { write!(snake, "_{}", letter.to_ascii_lowercase()) } else { write!(snake, "{letter}") };
        snake
    })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use livekit_protocol as proto;

    #[test]
    fn the_form_is_that_of_the_content_type() {
        assert_eq!(Form::of("application/json;charset=UTF-8"), Some(Form::Json));
        assert_eq!(Form::of(" Application/Protobuf "), Some(Form::Protobuf));
        assert_eq!(Form::of("application/x-protobuf"), None);
        assert_eq!(Form::of(""), None);
    }

    #[test]
    fn json_comes_in_with_either_names_unknown_fields_and_nulls() {
        let body = br#"{"name":"r","empty_timeout":5,"maxParticipants":7,"hologram":{"a":[1]},"metadata":null,"roomPreset":""}"#;
        let request: proto::CreateRoomRequest = Form::Json.decode(body).unwrap();
        assert_eq!((request.name.as_str(), request.empty_timeout, request.max_participants), ("r", 5, 7));
        for bad in [&b"{"[..], b"", b"[]", br#"{"name":5}"#, br#"{"emptyTimeout":"x"}"#, &[b'['; 100_000]] {
            assert!(Form::Json.decode::<proto::CreateRoomRequest>(bad).is_err());
        }
        assert!(Form::Protobuf.decode::<proto::CreateRoomRequest>(&[0xff; 4]).is_err());
    }

    #[test]
    fn json_goes_out_with_the_names_of_the_proto_files_and_with_what_is_unset() {
        let room = proto::Room { name: "r".to_owned(), creation_time_ms: 5, ..Default::default() };
        let written = spelled_out(serde_json::to_value(&room).unwrap(), proto::Room::FIELDS);
        assert_eq!((&written["name"], &written["creation_time_ms"], &written["num_participants"]), (&json!("r"), &json!("5"), &json!(0)));
        assert_eq!((&written["creation_time"], &written["enabled_codecs"], &written["version"]), (&json!("0"), &json!([]), &Value::Null));
        assert_eq!(written.get("creationTimeMs"), None);
    }

    #[test]
    fn keys_of_pairs_are_data_and_stay_as_they_are() {
        let attributes = [("camelCase".to_owned(), "v".to_owned()), ("snake_case".to_owned(), "w".to_owned())].into();
        let participant = proto::ParticipantInfo { attributes, ..Default::default() };
        let list = proto::ListParticipantsResponse { participants: vec![participant] };
        let written = spelled_out(serde_json::to_value(&list).unwrap(), proto::ListParticipantsResponse::FIELDS);
        let participant = &written["participants"][0];
        assert_eq!(participant["attributes"], json!({"camelCase": "v", "snake_case": "w"}));
        assert_eq!(
            (&participant["joined_at_ms"], &participant["state"], &participant["is_publisher"]),
            (&json!("0"), &json!("JOINING"), &json!(false))
        );
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let track = proto::TrackInfo {
            sid: "TR_1".to_owned(),
            source: proto::TrackSource::ScreenShare.into(),
            codecs: vec![proto::SimulcastCodecInfo { mime_type: "video/VP8".to_owned(), ..Default::default() }],
            ..Default::default()
        };
        let response = proto::MuteRoomTrackResponse { track: Some(track) };
        let written = spelled_out(serde_json::to_value(&response).unwrap(), proto::MuteRoomTrackResponse::FIELDS);
        let read: proto::MuteRoomTrackResponse = Form::Json.decode(written.to_string().as_bytes()).unwrap();
        assert_eq!(read, response);
    }
}
