//! The validity of an X.509 certificate, which is all that is read of it here (RFC 5280 section 4.1.2.5).
//!
//! In: DER. Out: seconds since the Unix epoch. Whether the certificate is good is TLS's business.

/// When a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Validity {
    pub(crate) not_after_s: u64,
}

/// `Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version, serial, signature, issuer, validity SEQUENCE { from, to }, ... } }`.
pub(crate) fn validity(der: &[u8]) -> Option<Validity> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    if tag == EXPLICIT_VERSION {
        rest = after;
    }
    for _ in ["serial", "signature", "issuer"] {
        (_, _, rest) = element(rest)?;
    }
    let (_, times, _) = element(rest)?;
    let (_, _, to) = element(times)?;
    let (tag, text, _) = element(to)?;
    Some(Validity { not_after_s: time(tag, std::str::from_utf8(text).ok()?)? })
}

/// Tag, contents, what follows (X.690 section 8.1, definite lengths only).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `UTCTime` is `YYMMDDHHMMSSZ` from 1950 to 2049, `GeneralizedTime` has four digits of the year.
fn time(tag: u8, text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = digits.split_at_checked(if tag == UTC_TIME { 2 } else { 4 })?;
    let year: u64 = year.parse().ok()?;
    let year = if tag == UTC_TIME { if year < 50 { 2000 + year } else { 1900 + year } } else { year };
    let part = |place: usize| rest.get(place * 2..place * 2 + 2)?.parse::<u64>().ok();
    Some(days_since_epoch(year, part(0)?, part(1)?)? * 86_400 + part(2)? * 3600 + part(3)? * 60 + part(4)?)
}

/// Days from 1970-01-01 in the Gregorian calendar; None before, or for a day that no month has.
pub(super) fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

const UTC_TIME: u8 = 0x17;
const EXPLICIT_VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_forms_are_read() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(0x18, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(0x18, "20000229120000Z"), Some(951_825_600));
        assert_eq!((time(UTC_TIME, "49123123595"), time(UTC_TIME, "491331000000Z"), time(0x18, "Z")), (None, None, None));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        for length in 0..64 {
            assert_eq!(validity(&vec![0x30; length]), None);
        }
        assert_eq!(validity(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
