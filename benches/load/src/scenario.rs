//! Scenarios: TOML files that say who joins, what they send and receive, and how long is measured. See `benches/scenarios`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer};
use sfu_core::media::{Codec, Rid};

use crate::plan::{AudioPlan, EncodingPlan, FrameSize, Layer, Participant, VideoPlan};

/// A scenario file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name in reports.
    pub name: String,
    /// For people.
    pub about: String,
    /// Rooms, all alike.
    #[serde(default = "one")]
    pub rooms: usize,
    /// Joins that are begun per second.
    #[serde(default = "default_pace")]
    pub joins_per_second: f64,
    /// Sources send next to nothing until everybody has joined, so that the cost of a join can be told from that of media.
    #[serde(default)]
    pub holds_media: bool,
    /// Between the last join and the measurement.
    #[serde(default = "default_settle", deserialize_with = "duration")]
    pub settle: Duration,
    /// How long is measured.
    #[serde(default = "default_steady", deserialize_with = "duration")]
    pub steady: Duration,
    /// Who is in each room.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

/// Participants of a room that do the same.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its participants' names begin with it.
    pub name: String,
    /// In each room.
    pub count: usize,
    /// They receive what others send.
    #[serde(default)]
    pub subscribes: bool,
    /// So many of them receive, but drop media in their sockets' filter.
    #[serde(default)]
    pub sinks: usize,
    /// What they want of simulcast tracks.
    #[serde(default)]
    pub layer: Layer,
    /// What they say.
    pub audio: Option<Audio>,
    /// What they show.
    pub video: Option<Video>,
    /// They join within this time, after all others and while media is measured.
    #[serde(default, deserialize_with = "maybe_duration")]
    pub storm: Option<Duration>,
}

/// See [`AudioPlan`].
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audio {
    /// Bytes of payload of each packet: at 50 packets/s 80 are 32 kbit/s, which is what browsers' Opus takes.
    #[serde(default = "default_audio_bytes")]
    pub payload_bytes: usize,
    /// Between two packets.
    #[serde(default = "default_audio_interval_ms")]
    pub interval_ms: u32,
}

/// See [`VideoPlan`].
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    /// `vp8` or `h264`.
    #[serde(default = "default_codec")]
    pub codec: String,
    /// Frames per second.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Smallest first. Three of them get the rids q, h and f, two q and h.
    pub encodings: Vec<Encoding>,
}

/// See [`EncodingPlan`]: with `kbps` realistic frames, with `packets` all alike.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// Of the picture.
    #[serde(default = "default_width")]
    pub width: u16,
    /// Of the picture.
    #[serde(default = "default_height")]
    pub height: u16,
    /// Mean bitrate of the payload.
    pub kbps: Option<u32>,
    /// Packets of each frame.
    pub packets: Option<usize>,
    /// Bytes of payload of each of these.
    #[serde(default = "default_payload_bytes")]
    pub payload_bytes: usize,
}

/// What the command line changes of a scenario.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Changes {
    /// How long is measured ("10s")
    #[arg(long, value_parser = humantime::parse_duration)]
    pub steady: Option<Duration>,
    /// So many subscribers in each room's largest group of pure subscribers
    #[arg(long)]
    pub subscribers: Option<usize>,
    /// So many of them drop media in their sockets' filter
    #[arg(long)]
    pub sinks: Option<usize>,
    /// So many rooms
    #[arg(long)]
    pub rooms: Option<usize>,
    /// Joins that are begun per second
    #[arg(long)]
    pub joins_per_second: Option<f64>,
}

/// A participant with the time it joins at.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who.
    pub participant: Arc<Participant>,
    /// Within the storm.
    pub storm: Option<Duration>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read, or says something that can't be.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// If it says something that can't be.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        ensure!(scenario.joins_per_second > 0.0, "joins_per_second must be more than 0");
        ensure!(scenario.rooms > 0 && !scenario.groups.is_empty(), "nobody joins");
        for group in &scenario.groups {
            let publishes = group.audio.is_some() || group.video.is_some();
            ensure!(publishes || group.subscribes, "{}: they neither publish nor subscribe", group.name);
            ensure!(group.sinks <= group.count && (group.sinks == 0 || group.subscribes), "{}: more sinks than subscribers", group.name);
            ensure!(!publishes || group.storm.is_none(), "{}: only subscribers can be a storm", group.name);
            group.video.as_ref().map(Video::plan).transpose().with_context(|| group.name.clone())?;
            if let Some(audio) = &group.audio {
                ensure!(
                    audio.payload_bytes >= crate::media::stamp::LEN && audio.interval_ms > 0,
                    "{}: audio packets too small",
                    group.name
                );
            }
        }
        Ok(scenario)
    }

    /// Applies what the command line says.
    #[must_use]
    pub fn changed(mut self, changes: &Changes) -> Self {
        self.steady = changes.steady.unwrap_or(self.steady);
        self.rooms = changes.rooms.unwrap_or(self.rooms);
        self.joins_per_second = changes.joins_per_second.unwrap_or(self.joins_per_second);
        let pure = self.groups.iter_mut().filter(|group| group.subscribes && group.audio.is_none() && group.video.is_none());
        if let Some(group) = pure.max_by_key(|group| group.count) {
            group.count = changes.subscribers.unwrap_or(group.count);
            group.sinks = changes.sinks.unwrap_or(group.sinks).min(group.count);
        }
        self
    }

    /// Everybody in the order of joining: publishers first, so that subscribers find something.
    ///
    /// # Errors
    /// If a video plan can't be.
    pub fn participants(&self, run: &str) -> anyhow::Result<Vec<Entry>> {
        let tracks_of = |group: &Group| usize::from(group.audio.is_some()) + usize::from(group.video.is_some());
        let calm = self.groups.iter().filter(|group| group.storm.is_none());
        let tracks: usize = calm.map(|group| group.count * tracks_of(group)).sum();
        let mut entries = Vec::new();
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_key(|group| (group.storm.is_some(), tracks_of(group) == 0));
        for group in groups {
            let video = group.video.as_ref().map(Video::plan).transpose()?;
            let audio = group.audio.as_ref().map(|audio| AudioPlan { payload_bytes: audio.payload_bytes, interval_ms: audio.interval_ms });
            for number in 0..group.count {
                for room in 0..self.rooms {
                    let participant = Participant {
                        index: entries.len(),
                        room: format!("{}-{run}-{room}", self.name),
                        identity: format!("{}-{number}", group.name),
                        audio: audio.clone(),
                        video: video.clone(),
                        subscribes: group.subscribes,
                        is_sink: number < group.sinks,
                        layer: group.layer,
                        expected_tracks: if group.subscribes { tracks - tracks_of(group) } else { 0 },
                    };
                    entries.push(Entry { participant: Arc::new(participant), storm: group.storm });
                }
            }
        }
        Ok(entries)
    }
}

impl Video {
    fn plan(&self) -> anyhow::Result<VideoPlan> {
        let codec = Codec::by_name(&self.codec).filter(|codec| matches!(codec, Codec::Vp8 | Codec::H264));
        let codec = codec.with_context(|| format!("codec {:?}: vp8 and h264 there are", self.codec))?;
        ensure!(self.fps > 0.0, "fps must be more than 0");
        ensure!((1..=3).contains(&self.encodings.len()), "one to three encodings");
        let names = if self.encodings.len() == 1 { [None; 3] } else { [Some("q"), Some("h"), Some("f")] };
        let encoding = |(encoding, name): (&Encoding, Option<&str>)| -> anyhow::Result<EncodingPlan> {
            let size = match (encoding.kbps, encoding.packets) {
                (Some(kbps), None) => FrameSize::Bitrate { bps: kbps * 1_000 },
                (None, Some(count)) => FrameSize::Packets { count, payload_bytes: encoding.payload_bytes },
                _ => anyhow::bail!("an encoding has either kbps or packets"),
            };
            let rid = name.map(Rid::from).transpose().map_err(|_| anyhow::anyhow!("a rid is too long"))?;
            Ok(EncodingPlan { rid, width_px: encoding.width, height_px: encoding.height, size })
        };
        let encodings = self.encodings.iter().zip(names).map(encoding).collect::<Result<_, _>>()?;
        Ok(VideoPlan { codec, fps: self.fps, encodings })
    }
}

fn one() -> usize {
    1
}

fn default_pace() -> f64 {
    50.0
}

fn default_settle() -> Duration {
    Duration::from_secs(2)
}

fn default_steady() -> Duration {
    Duration::from_secs(10)
}

fn default_audio_bytes() -> usize {
    80
}

fn default_audio_interval_ms() -> u32 {
    20
}

fn default_codec() -> String {
    "vp8".to_owned()
}

fn default_fps() -> f64 {
    30.0
}

fn default_width() -> u16 {
    1280
}

fn default_height() -> u16 {
    720
}

fn default_payload_bytes() -> usize {
    1_130
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn maybe_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MEETING: &str = r#"
        name = "meeting"
        about = "test"
        rooms = 2
        steady = "1500ms"
        [[group]]
        name = "watcher"
        count = 3
        subscribes = true
        sinks = 1
        layer = "low"
        [[group]]
        name = "member"
        count = 2
        subscribes = true
        audio = {}
        video = { encodings = [{ kbps = 150 }, { kbps = 500 }, { kbps = 1700 }] }
    "#;

    #[test]
    fn everybody_is_counted_and_publishers_come_first() {
        let scenario = Scenario::parse(MEETING).unwrap();
        assert_eq!(scenario.steady, Duration::from_millis(1_500));
        let entries = scenario.participants("1").unwrap();
        assert_eq!(entries.len(), 10);
        assert!(entries.iter().enumerate().all(|(index, entry)| entry.participant.index == index));
        assert!(entries[..4].iter().all(|entry| entry.participant.video.is_some() && entry.participant.expected_tracks == 2));
        assert!(entries[4..].iter().all(|entry| entry.participant.video.is_none() && entry.participant.expected_tracks == 4));
        assert_eq!(entries.iter().filter(|entry| entry.participant.is_sink).count(), 2);
        let rids: Vec<_> = entries[0].participant.video.as_ref().unwrap().encodings.iter().map(|encoding| encoding.rid.unwrap()).collect();
        assert_eq!(rids.iter().map(Rid::as_str).collect::<Vec<_>>(), ["q", "h", "f"]);
    }

    #[test]
    fn the_command_line_changes_the_audience() {
        let changes = Changes { subscribers: Some(7), sinks: Some(9), rooms: Some(1), ..Changes::default() };
        let scenario = Scenario::parse(MEETING).unwrap().changed(&changes);
        assert_eq!((scenario.groups[0].count, scenario.groups[0].sinks, scenario.groups[1].count, scenario.rooms), (7, 7, 2, 1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (from, to) in [
            ("kbps = 150 }", "kbps = 150, packets = 3 }"),
            ("sinks = 1", "sinks = 4"),
            ("audio = {}", "audio = { payload_bytes = 10 }"),
            ("video = { encodings", "video = { codec = \"vp9\", encodings"),
            ("rooms = 2", "rooms = 0"),
            ("about = \"test\"", "about = \"test\"\nunknown = 1"),
        ] {
            assert!(Scenario::parse(&MEETING.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn the_scenarios_of_the_repository_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let scenario = Scenario::load(&path).unwrap();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
            scenario.participants("1").unwrap();
            names.push(scenario.name);
        }
        assert!(names.len() >= 9, "{names:?}");
    }
}
