//! Finds the end of a certificate's validity (RFC 5280 section 4.1.2.5) and nothing else: whether it is good is TLS's business.

use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Time since 1970 at which a certificate in DER ends. `None`: it does not say so in a form that is read here.
#[must_use]
pub fn not_after(certificate: &[u8]) -> Option<Duration> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        (_, _, rest) = element(rest)?;
    }
    // serial number, signature algorithm, issuer
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (tag, validity, _) = element(rest)?;
    let (_, _, after) = element(validity).filter(|_| tag == SEQUENCE)?;
    let (tag, time, _) = element(after)?;
    unix(tag, std::str::from_utf8(time).ok()?)
}

/// Tag, content, and what follows (X.690 section 8.1, definite lengths only).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F)).filter(|(digits, _)| digits.len() <= 4)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `UTCTime` is `YYMMDDhhmmssZ` from 1950 to 2049, `GeneralizedTime` has four digits of the year.
fn unix(tag: u8, text: &str) -> Option<Duration> {
    let year_len = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let (year, rest) = text.strip_suffix('Z')?.split_at_checked(year_len).filter(|(_, rest)| rest.len() == 10)?;
    let century = match tag {
        UTC_TIME if year < "50" => "20",
        UTC_TIME => "19",
        _ => "",
    };
    let part = |place: usize| rest.get(place * 2..place * 2 + 2);
    let (month, day, hour, minute, second) = (part(0)?, part(1)?, part(2)?, part(3)?, part(4)?);
    let time = humantime::parse_rfc3339(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_forms_are_read() {
        let seconds = |tag, text| unix(tag, text).map(|time| time.as_secs());
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(GENERALIZED_TIME, "20000229120000Z"), Some(951_825_600));
        assert_eq!((seconds(UTC_TIME, "500101000000Z"), seconds(GENERALIZED_TIME, "19691231235959Z")), (None, None), "before 1970");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "Z", "49123123595", "49123123595Z", "491331000000Z", "4912310000000Z", "49-2-1000000Z"] {
            assert_eq!((unix(UTC_TIME, text), unix(GENERALIZED_TIME, text), unix(SEQUENCE, text)), (None, None, None), "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for length in 0..64 {
            assert_eq!(not_after(&vec![SEQUENCE; length]), None);
        }
        for bytes in [&b"\x30\x84\xff\xff\xff\xff"[..], b"\x30\x80", b"\x30\x02\x30\x00"] {
            assert_eq!(not_after(bytes), None);
        }
    }
}
