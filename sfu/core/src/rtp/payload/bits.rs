//! Reads and writes numbers of any width in bits, high bit first, as codecs and the dependency descriptor pack them.
//!
//! Neither side ever panics: reading beyond the end gives None, writing beyond the end is remembered and makes
//! [`BitWriter::finish`] fail.

/// A position in bytes, counted in bits.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The next `width` bits as a number, at most 32; None if there are fewer.
    pub fn read(&mut self, width: usize) -> Option<u32> {
        debug_assert!(width <= 32);
        let end = self.at.checked_add(width).filter(|&end| end <= self.bytes.len() * 8)?;
        let mut value: u64 = 0;
        while self.at < end {
            let byte = u64::from(*self.bytes.get(self.at / 8)?);
            let used = self.at % 8;
            let taken = (8 - used).min(end - self.at);
            let part = (byte >> (8 - used - taken)) & ((1 << taken) - 1);
            value = (value << taken) | part;
            self.at += taken;
        }
        u32::try_from(value).ok()
    }

    /// The next bit.
    pub fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// The next `width` bits, at most 8.
    pub fn small(&mut self, width: usize) -> Option<u8> {
        self.read(width).and_then(|value| u8::try_from(value).ok())
    }

    /// Passes over any number of bits.
    pub fn skip(&mut self, width: usize) -> Option<()> {
        self.at = self.at.checked_add(width).filter(|&end| end <= self.bytes.len() * 8)?;
        Some(())
    }

    /// A number below `count` (at least 1) in the fewest bits: `ns(n)` of AV1 (section 4.10.7) and of the dependency
    /// descriptor (A.8.2).
    pub fn non_symmetric(&mut self, count: u32) -> Option<u32> {
        let width = usize::try_from(32 - count.leading_zeros()).ok()?;
        let short_codes = (1_u64 << width).checked_sub(u64::from(count))?;
        let value = u64::from(self.read(width.checked_sub(1)?)?);
        if value < short_codes {
            return u32::try_from(value).ok();
        }
        let extra = u64::from(self.read(1)?);
        u32::try_from((value << 1) - short_codes + extra).ok()
    }
}

/// Writes into a buffer of the caller.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    is_full: bool,
}

impl<'a> BitWriter<'a> {
    /// A writer at the first bit of `out`, whose bytes it clears as it gets to them.
    #[must_use]
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, is_full: false }
    }

    /// The low `width` bits of `value`, at most 32.
    pub fn write(&mut self, width: usize, value: u32) {
        debug_assert!(width <= 32);
        let mut left = width;
        while left > 0 {
            let Some(byte) = self.out.get_mut(self.at / 8) else {
                self.is_full = true;
                return;
            };
            let used = self.at % 8;
            if used == 0 {
                *byte = 0;
            }
            let taken = (8 - used).min(left);
            let part = (u64::from(value) >> (left - taken)) & ((1 << taken) - 1);
            *byte |= u8::try_from(part << (8 - used - taken)).unwrap_or_default();
            self.at += taken;
            left -= taken;
        }
    }

    /// See [`BitReader::non_symmetric`].
    pub fn write_non_symmetric(&mut self, count: u32, value: u32) {
        debug_assert!(value < count);
        let width = 32 - count.leading_zeros() as usize;
        let short_codes = (1_u64 << width) - u64::from(count);
        if u64::from(value) < short_codes {
            self.write(width - 1, value);
        } else {
            self.write(width, u32::try_from(u64::from(value) + short_codes).unwrap_or_default());
        }
    }

    /// Copies bits from a reader until it stands at `end`.
    pub fn copy_until(&mut self, from: &mut BitReader<'_>, end: usize) {
        while from.position() < end {
            let width = (end - from.position()).min(32);
            let Some(value) = from.read(width) else {
                self.is_full = true;
                return;
            };
            self.write(width, value);
        }
    }

    /// Bytes written, the last one filled up with zeros; None if the buffer was too small.
    #[must_use]
    pub fn finish(self) -> Option<usize> {
        (!self.is_full).then(|| self.at.div_ceil(8))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_are_read_from_high_to_low_across_bytes() {
        let mut bits = BitReader::new(&[0b1010_0111, 0b1000_0001]);
        assert_eq!((bits.read(1), bits.read(3), bits.read(6), bits.read(6)), (Some(1), Some(0b010), Some(0b01_1110), Some(1)));
        assert_eq!((bits.read(0), bits.read(1)), (Some(0), None));
    }

    /// The table of section A.8.2 for five values: 0, 1 and 2 take two bits, 3 and 4 take three.
    #[test]
    fn five_values_take_two_or_three_bits() {
        for (value, width, code) in [(0, 2, 0b00), (1, 2, 0b01), (2, 2, 0b10), (3, 3, 0b110), (4, 3, 0b111)] {
            let mut out = [0xff; 1];
            let mut bits = BitWriter::new(&mut out);
            bits.write_non_symmetric(5, value);
            assert_eq!(bits.at, width);
            assert_eq!(out[0] >> (8 - width), code);
            assert_eq!(BitReader::new(&out).non_symmetric(5), Some(value));
        }
    }

    #[test]
    fn one_value_takes_no_bits() {
        assert_eq!(BitReader::new(&[]).non_symmetric(1), Some(0));
        assert_eq!(BitReader::new(&[]).non_symmetric(0), None, "there is no such number");
    }

    #[test]
    fn a_full_buffer_is_reported() {
        let mut out = [0; 1];
        let mut bits = BitWriter::new(&mut out);
        bits.write(8, 255);
        assert_eq!(bits.finish(), Some(1));
        let mut bits = BitWriter::new(&mut out);
        bits.write(9, 255);
        assert_eq!(bits.finish(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec((0_usize..=32, any::<u32>(), 1_u32..70), 0..20)) {
            let mut out = [0xaa; 256];
            let mut bits = BitWriter::new(&mut out);
            for &(width, value, count) in &numbers {
                bits.write(width, value);
                bits.write_non_symmetric(count, value % count);
            }
            let len = bits.finish().unwrap();
            let mut bits = BitReader::new(&out[..len]);
            for &(width, value, count) in &numbers {
                let kept = u64::from(value) & ((1_u64 << width) - 1);
                prop_assert_eq!(bits.read(width).map(u64::from), Some(kept));
                prop_assert_eq!(bits.non_symmetric(count), Some(value % count));
            }
            prop_assert!(bits.read(8).is_none());
        }

        #[test]
        fn reading_beyond_the_end_gives_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..6), widths in proptest::collection::vec(0_usize..=32, 0..9)) {
            let mut bits = BitReader::new(&bytes);
            for width in widths {
                let before = bits.position();
                let fits = before + width <= bytes.len() * 8;
                prop_assert_eq!(bits.read(width).is_some(), fits);
                prop_assert_eq!(bits.position(), if fits { before + width } else { before });
            }
        }
    }
}
