//! Blobs that participants store for others to fetch, schemas of data tracks for example.
//!
//! Invariant: keys and contents of one participant together are within `limits`; they go when it leaves.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use livekit_protocol::{data_blob_key::Key, request_response::Reason, signal_response::Message};
use prost::Message as _;
use sfu_api::ParticipantId;

use crate::{data_tracks::is_schema_named, limits, room::Room, turn::Turn};

/// Blobs of one participant, by their encoded keys.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    by_key: BTreeMap<Vec<u8>, proto::DataBlob>,
    bytes: usize,
}

impl Blobs {
    /// A blob of the same key is replaced.
    pub(crate) fn store(&mut self, blob: proto::DataBlob) -> Result<proto::DataBlobKey, (Reason, &'static str)> {
        let invalid = (Reason::InvalidRequest, "data blob is invalid");
        let key = blob.key.clone().ok_or(invalid)?;
        let encoded = key.encode_to_vec();
        let is_named = match &key.key {
            Some(Key::Generic(name)) => !name.is_empty(),
            Some(Key::SchemaId(schema)) => is_schema_named(schema),
            None => false,
        };
        if !is_named || encoded.len() > limits::BLOB_KEY_BYTES || blob.contents.is_empty() {
            return Err(invalid);
        }
        let replaced = self.by_key.get(&encoded).map_or(0, |known| encoded.len() + known.contents.len());
        let bytes = self.bytes - replaced + encoded.len() + blob.contents.len();
        if bytes > limits::BLOB_BYTES {
            return Err((Reason::LimitExceeded, "data blobs exceed the limit"));
        }
        self.bytes = bytes;
        self.by_key.insert(encoded, blob);
        Ok(key)
    }

    pub(crate) fn get(&self, key: &proto::DataBlobKey) -> Option<&proto::DataBlob> {
        self.by_key.get(&key.encode_to_vec())
    }
}

impl Room {
    pub(crate) fn store_blob(&mut self, id: ParticipantId, request: proto::StoreDataBlobRequest, turn: &mut Turn<'_>) {
        let request_id = request.request_id;
        match self.try_store_blob(id, request, turn) {
            Ok(key) => {
                let response = proto::StoreDataBlobResponse { request_id, key: Some(key) };
                self.tell(id, Message::StoreDataBlobResponse(response), turn);
            }
            Err((reason, message)) => self.reply(id, request_id, reason, message, None, turn),
        }
    }

    fn try_store_blob(
        &mut self,
        id: ParticipantId,
        request: proto::StoreDataBlobRequest,
        turn: &Turn<'_>,
    ) -> Result<proto::DataBlobKey, (Reason, &'static str)> {
        if !self.may_change(id, turn) {
            return Err((Reason::LimitExceeded, "too many changes"));
        }
        let participant = self.members.get_mut(id).ok_or((Reason::NotFound, "participant not found"))?;
        if !participant.grants.can_publish_data {
            return Err((Reason::NotAllowed, "does not have permission to publish data"));
        }
        let blob = request.blob.ok_or((Reason::InvalidRequest, "data blob is invalid"))?;
        participant.blobs.store(blob)
    }

    pub(crate) fn get_blob(&self, id: ParticipantId, request: &proto::GetDataBlobRequest, turn: &mut Turn<'_>) {
        let request_id = request.request_id;
        let owner = self.members.id_of(&request.participant_identity).and_then(|owner| self.members.get(owner));
        let Some(owner) = owner.filter(|owner| owner.id == id || !owner.is_hidden()) else {
            self.reply(id, request_id, Reason::NotFound, "participant not found", None, turn);
            return;
        };
        match request.key.as_ref().map(|key| owner.blobs.get(key)) {
            Some(Some(blob)) => {
                let response = proto::GetDataBlobResponse { request_id, blob: Some(blob.clone()) };
                self.tell(id, Message::GetDataBlobResponse(response), turn);
            }
            Some(None) => self.reply(id, request_id, Reason::NotFound, "data blob not found", None, turn),
            None => self.reply(id, request_id, Reason::InvalidRequest, "data blob key is required", None, turn),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn blob(name: &str, size: usize) -> proto::DataBlob {
        let key = Some(proto::DataBlobKey { key: Some(Key::Generic(name.to_owned())) });
        proto::DataBlob { key, contents: vec![7; size] }
    }

    #[test]
    fn a_blob_is_found_under_its_key_and_replaced_by_the_next() {
        let mut blobs = Blobs::default();
        for size in [10, 20] {
            let key = blobs.store(blob("a", size)).unwrap();
            assert_eq!(blobs.get(&key).unwrap().contents.len(), size);
        }
        assert_eq!(blobs.by_key.len(), 1);
        assert!(blobs.get(&blob("b", 1).key.unwrap()).is_none());
    }

    #[test]
    fn all_blobs_together_are_bounded_and_a_replaced_one_does_not_count() {
        let mut blobs = Blobs::default();
        for _ in 0..5 {
            blobs.store(blob("a", limits::BLOB_BYTES / 2)).unwrap();
        }
        assert_eq!(blobs.store(blob("b", limits::BLOB_BYTES / 2)).unwrap_err().0, Reason::LimitExceeded);
        for bad in [blob("", 1), blob("a", 0), blob(&"k".repeat(999), 1), proto::DataBlob { key: None, contents: vec![1] }] {
            assert_eq!(blobs.store(bad).unwrap_err().0, Reason::InvalidRequest);
        }
    }
}
