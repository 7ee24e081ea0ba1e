//! Aggregation packets: several NAL units in one payload, alike in H.264 (RFC 6184 section 5.7.1) and H.265 (RFC 7798 section 4.4.2).

/// The units, each behind its size of 16 bits; ends where one is cut short.
pub(super) fn aggregated_units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (size, tail) = rest.split_first_chunk::<2>()?;
        let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = tail;
        Some(unit)
    })
}
