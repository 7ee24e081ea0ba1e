//! The query of `/rtc` and `/rtc/v1`, as LiveKit's SDKs write it.
//!
//! Lenient: what is unknown, malformed or repeated too often never keeps a client out, because every SDK adds its own.

use livekit_protocol::{ClientInfo, ReconnectReason, client_info};
use signaling_core::JoinParams;

/// What `/rtc` was asked.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct RtcQuery {
    /// Token, if it is not in a header.
    pub(crate) access_token: Option<String>,
    /// Room that the client believes it joins; only some tools send it.
    pub(crate) room: Option<String>,
    /// Everything else, in the form of `/rtc/v1`.
    pub(crate) join_request: Option<String>,
    /// It resumes a session; not known here if there is a `join_request`.
    pub(crate) is_reconnect: bool,
    auto_subscribe: Option<bool>,
    is_adaptive_stream: bool,
    participant_sid: Option<String>,
    reconnect_reason: i32,
    client: ClientInfo,
}

impl RtcQuery {
    /// Reads a query string. Of a repeated name the last one counts.
    pub(crate) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            parsed.set(&name, value.into_owned());
        }
        parsed
    }

    /// For the rooms.
    pub(crate) fn into_join_params(self) -> JoinParams {
        JoinParams {
            auto_subscribe: self.auto_subscribe.unwrap_or(true),
            adaptive_stream: self.is_adaptive_stream,
            reconnect: self.is_reconnect,
            participant_sid: self.participant_sid.filter(|sid| !sid.is_empty()),
            reconnect_reason: ReconnectReason::try_from(self.reconnect_reason).unwrap_or(ReconnectReason::RrUnknown),
            client: self.client,
            ..JoinParams::default()
        }
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "access_token" => self.access_token = Some(value),
            "join_request" => self.join_request = Some(value),
            "room" => self.room = Some(value),
            "reconnect" => self.is_reconnect = is_true(&value),
            "sid" => self.participant_sid = Some(value),
            "reconnect_reason" => self.reconnect_reason = value.parse().unwrap_or(0),
            "auto_subscribe" => self.auto_subscribe = Some(is_true(&value)),
            "adaptive_stream" => self.is_adaptive_stream = is_true(&value),
            "sdk" => self.client.sdk = sdk(&value).into(),
            "version" => self.client.version = bounded(value),
            "protocol" => self.client.protocol = value.parse().unwrap_or(0),
            "client_protocol" => self.client.client_protocol = value.parse().unwrap_or(0),
            "os" => self.client.os = bounded(value),
            "os_version" => self.client.os_version = bounded(value),
            "browser" => self.client.browser = bounded(value),
            "browser_version" => self.client.browser_version = bounded(value),
            "device_model" => self.client.device_model = bounded(value),
            "network" => self.client.network = bounded(value),
            "capabilities" => self.client.capabilities = capabilities(&value),
            _ => {}
        }
    }
}

/// What a client says of itself, within the bounds that a query has.
pub(crate) fn tamed(client: ClientInfo) -> ClientInfo {
    ClientInfo {
        version: bounded(client.version),
        os: bounded(client.os),
        os_version: bounded(client.os_version),
        device_model: bounded(client.device_model),
        browser: bounded(client.browser),
        browser_version: bounded(client.browser_version),
        address: String::new(),
        network: bounded(client.network),
        other_sdks: bounded(client.other_sdks),
        capabilities: client.capabilities.into_iter().take(MAX_CAPABILITIES).collect(),
        ..client
    }
}

fn is_true(value: &str) -> bool {
    value == "1" || value == "true"
}

/// Names and versions are shown to others and kept as long as the session: a few words suffice.
fn bounded(mut value: String) -> String {
    let end = (0..=MAX_VALUE_BYTES).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    value.truncate(end);
    value
}

fn sdk(name: &str) -> client_info::Sdk {
    use client_info::Sdk;
    match name {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "esp32" => Sdk::Esp32,
        _ => Sdk::Unknown,
    }
}

fn capabilities(list: &str) -> Vec<i32> {
    list.split(',').filter_map(|name| client_info::Capability::from_str_name(name.trim())).map(i32::from).take(MAX_CAPABILITIES).collect()
}

const MAX_VALUE_BYTES: usize = 128;
const MAX_CAPABILITIES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_livekit_client_for_the_web_is_understood() {
        let query = RtcQuery::parse(
            "access_token=a.b.c&auto_subscribe=1&sdk=js&version=2.23.0&protocol=17&client_protocol=2&os=Linux&browser=Chrome\
             &browser_version=130.0&adaptive_stream=1&network=wifi",
        );
        assert_eq!(query.access_token.as_deref(), Some("a.b.c"));
        let params = query.into_join_params();
        assert!(params.auto_subscribe && params.adaptive_stream && !params.reconnect);
        assert_eq!(params.client.sdk(), client_info::Sdk::Js);
        assert_eq!((params.client.version.as_str(), params.client.protocol, params.client.client_protocol), ("2.23.0", 17, 2));
        assert_eq!((params.client.browser.as_str(), params.client.network.as_str()), ("Chrome", "wifi"));
    }

    #[test]
    fn the_query_of_the_native_sdk_is_understood() {
        let query = RtcQuery::parse(
            "sdk=python&os=Linux&os_version=24.04&device_model=&protocol=17&client_protocol=2&auto_subscribe=0&adaptive_stream=0\
             &capabilities=CAP_PACKET_TRAILER%2CCAP_COMPRESSION_DEFLATE_RAW%2CCAP_TELEPATHY&reconnect=1&sid=PA_abc&reconnect_reason=2",
        );
        let params = query.into_join_params();
        assert!(!params.auto_subscribe && !params.adaptive_stream && params.reconnect);
        assert_eq!(params.participant_sid.as_deref(), Some("PA_abc"));
        assert_eq!(params.reconnect_reason, ReconnectReason::RrPublisherFailed);
        assert_eq!(params.client.capabilities.len(), 2);
    }

    #[test]
    fn nothing_in_a_query_keeps_a_client_out() {
        let params = RtcQuery::parse("protocol=many&reconnect_reason=-7&sdk=&auto_subscribe&%ff=%zz&&=&sid=").into_join_params();
        assert_eq!((params.client.protocol, params.reconnect_reason), (0, ReconnectReason::RrUnknown));
        assert_eq!(params.participant_sid, None);
        assert!(RtcQuery::parse("").into_join_params().auto_subscribe);
    }

    #[test]
    fn long_values_are_cut_at_a_letter() {
        let query = RtcQuery::parse(&format!("os={}", "é".repeat(1000)));
        assert_eq!(query.client.os.len(), MAX_VALUE_BYTES);
    }
}
