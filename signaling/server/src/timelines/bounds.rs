//! What is forgotten when there is too much, or after its time: of rows the oldest minute of anybody, of stays those that are over longest.
//!
//! Invariants: at most [`MAX_PEOPLE`] stays, and no more bytes than [`Timelines::new`] allows. Every chunk of rows has one place in the
//! queue of chunks, by which it is found again; one whose stay is gone costs nothing but that place.

use std::collections::HashMap;
use std::hash::Hash;

use super::series::{CHUNK_S, REACH_S};
use super::{Key, StayId, Timelines, Track};

/// Stays that are remembered.
const MAX_PEOPLE: usize = 20_000;

impl Timelines {
    /// For one more stay.
    pub(super) fn make_room(&mut self) {
        while self.people.len() >= MAX_PEOPLE {
            let Some(oldest) = self.ended.pop_front().or_else(|| self.people.keys().next().copied()) else { return };
            self.forget(oldest);
        }
    }

    /// Forgets stays and chunks that ended more than the reach of a series ago.
    pub(super) fn forget_old(&mut self, now_s: u64) {
        while let Some(&oldest) = self.ended.front() {
            let ended_s = self.people.get(&oldest).and_then(|person| person.ended_s);
            if ended_s.is_some_and(|ended_s| ended_s + REACH_S >= now_s) {
                break;
            }
            self.ended.pop_front();
            self.forget(oldest);
        }
        while let Some(&(start_s, stay, key)) = self.chunks.front().filter(|(start_s, ..)| start_s + REACH_S + 2 * CHUNK_S < now_s) {
            self.chunks.pop_front();
            self.let_go(start_s, stay, key);
        }
    }

    /// Of rows, tracks and their names there are no more bytes than may be.
    pub(super) fn stay_within(&mut self) {
        while self.bytes > self.max_bytes {
            let Some((start_s, stay, key)) = self.chunks.pop_front() else { return };
            self.let_go(start_s, stay, key);
        }
    }

    /// Forgets a chunk, unless that has happened already.
    fn let_go(&mut self, start_s: u64, stay: StayId, key: Key) {
        let Some(person) = self.people.get_mut(&stay) else { return };
        let Some(track) = person.tracks.get_mut(&key) else { return };
        let freed = if track.series.newest_start_s() == Some(start_s) {
            // Nothing younger is there: the track has ended, or there is no room for anything, and it begins anew.
            person.tracks.remove(&key).map_or(0, |track| track.size())
        } else if track.series.oldest_start_s() == Some(start_s) {
            track.series.drop_oldest()
        } else {
            0
        };
        self.bytes = self.bytes.saturating_sub(freed);
    }

    fn forget(&mut self, stay: StayId) {
        let Some(person) = self.people.remove(&stay) else { return };
        let freed: usize = person.tracks.values().map(Track::size).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        // Its places in `chunks` go with their time: to look for them would take as long as there are many.
        strike(&mut self.by_participant, &person.participant, stay);
        strike(&mut self.by_name, &(person.room, person.identity), stay);
    }
}

/// Takes a stay off a list, and the list off the table if it was the last.
fn strike<K: Eq + Hash>(lists: &mut HashMap<K, Vec<StayId>>, key: &K, stay: StayId) {
    let Some(stays) = lists.get_mut(key) else { return };
    stays.retain(|&other| other != stay);
    if stays.is_empty() {
        lists.remove(key);
    }
}
