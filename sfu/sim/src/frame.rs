//! Symbolic video frames: they contain no picture, but say what they are and which frame they need.
//!
//! Layout, big endian: magic, encoding, flags, temporal layer, spatial layer, width, height, frame number, two reference
//! numbers, length of the whole; then bytes that follow from frame number and position, so that any mix of two frames is noticed.

/// One frame of a synthetic source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Which simulcast encoding it belongs to.
    pub encoding: u8,
    /// Needs no other frame.
    pub is_keyframe: bool,
    /// Temporal layer, 0 is the lowest.
    pub temporal: u8,
    /// Spatial layer, 0 is the smallest.
    pub spatial: u8,
    /// Width of the picture.
    pub width_px: u16,
    /// Height of the picture.
    pub height_px: u16,
    /// Counts the frames of its encoding.
    pub number: u32,
    /// The frame of the same encoding that must have been decoded before; its own number for a keyframe.
    pub reference: u32,
    /// Another one: the next lower spatial layer of the same picture; its own number if there is none.
    pub below: u32,
}

impl Frame {
    /// Its place among the sizes that its source sends: of the encodings or of the spatial layers.
    #[must_use]
    pub fn rung(&self) -> u8 {
        self.encoding + self.spatial
    }
}

/// Bytes of the part that is not filling; no frame is smaller.
pub const HEADER_LEN: usize = 28;
const MAGIC: [u8; 4] = *b"SYFR";

impl Frame {
    /// The encoded frame, `len` bytes or [`HEADER_LEN`] if that is more.
    #[must_use]
    pub fn encode(&self, len: usize) -> Vec<u8> {
        let len = len.max(HEADER_LEN);
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[self.encoding, u8::from(self.is_keyframe), self.temporal, self.spatial]);
        bytes.extend_from_slice(&self.width_px.to_be_bytes());
        bytes.extend_from_slice(&self.height_px.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.reference.to_be_bytes());
        bytes.extend_from_slice(&self.below.to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(len).expect("frames are smaller than 4 GB").to_be_bytes());
        bytes.extend((HEADER_LEN..len).map(|at| filling(self.number, at)));
        bytes
    }

    /// Reads an encoded frame back; `None` if a single byte is missing, too much or wrong.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let (magic, header) = header.split_first_chunk::<4>()?;
        let (&[encoding, key, temporal, spatial, w0, w1, h0, h1], header) = header.split_first_chunk()?;
        let &[n0, n1, n2, n3, r0, r1, r2, r3, b0, b1, b2, b3, l0, l1, l2, l3] = header else { return None };
        let frame = Self {
            encoding,
            is_keyframe: key == 1,
            temporal,
            spatial,
            width_px: u16::from_be_bytes([w0, w1]),
            height_px: u16::from_be_bytes([h0, h1]),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
            reference: u32::from_be_bytes([r0, r1, r2, r3]),
            below: u32::from_be_bytes([b0, b1, b2, b3]),
        };
        let is_whole = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])) == Ok(bytes.len());
        let is_intact = rest.iter().zip(HEADER_LEN..).all(|(&byte, at)| byte == filling(frame.number, at));
        (*magic == MAGIC && key < 2 && is_whole && is_intact).then_some(frame)
    }
}

fn filling(number: u32, at: usize) -> u8 {
    let [a, b, c, d] = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
    let [.., low] = at.wrapping_mul(0x6d).to_be_bytes();
    low ^ a ^ b ^ c ^ d
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        encoding: 2,
        is_keyframe: false,
        temporal: 1,
        spatial: 0,
        width_px: 1280,
        height_px: 720,
        number: 70_000,
        reference: 69_999,
        below: 70_000,
    };

    #[test]
    fn a_frame_reads_back() {
        for len in [0, HEADER_LEN, 3000] {
            let bytes = FRAME.encode(len);
            assert_eq!(bytes.len(), len.max(HEADER_LEN));
            assert_eq!(Frame::decode(&bytes), Some(FRAME));
        }
    }

    #[test]
    fn any_damage_is_noticed() {
        let bytes = FRAME.encode(2000);
        assert_eq!(Frame::decode(&bytes[..1999]), None);
        assert_eq!(Frame::decode(&[bytes.as_slice(), &[0]].concat()), None);
        for at in [0, 5, 20, 27, 28, 1999] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let is_noticed = Frame::decode(&damaged) != Some(FRAME);
            assert!(is_noticed, "byte {at}");
        }
        let other = Frame { number: 70_001, ..FRAME }.encode(2000);
        assert_eq!(Frame::decode(&[&bytes[..1000], &other[1000..]].concat()), None);
    }
}
