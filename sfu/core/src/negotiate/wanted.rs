//! The down tracks that a client is to get, whether or not an m-line carries them yet.

use super::NegotiationError;
use super::subscriber::{DownChoice, DownMedia};
use crate::limits;

/// In the order in which they were wanted, each under its own key.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted(Vec<DownMedia>);

impl Wanted {
    /// Wants one more; one with the same key is replaced. True if that changes something. Fails if there are as many as m-lines
    /// are allowed.
    pub(super) fn add(&mut self, media: DownMedia) -> Result<bool, NegotiationError> {
        if let Some(known) = self.0.iter_mut().find(|m| m.key == media.key) {
            let is_changed = *known != media;
            *known = media;
            return Ok(is_changed);
        }
        // One m-line is for data.
        if self.0.len() + 1 >= limits::MAX_MEDIA_LINES {
            return Err(NegotiationError::TooManyLines(self.0.len() + 2));
        }
        self.0.push(media);
        Ok(true)
    }

    /// One may come in other codecs than before. True if that changes something.
    pub(super) fn set_codecs(&mut self, key: u64, codecs: Vec<DownChoice>) -> bool {
        let changed = self.0.iter_mut().find(|m| m.key == key && m.codecs != codecs);
        changed.map(|media| media.codecs = codecs).is_some()
    }

    /// True if it was wanted.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let before = self.0.len();
        self.retain(|m| m.key != key);
        self.0.len() != before
    }

    pub(super) fn retain(&mut self, is_kept: impl FnMut(&DownMedia) -> bool) {
        self.0.retain(is_kept);
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, DownMedia> {
        self.0.iter()
    }
}
