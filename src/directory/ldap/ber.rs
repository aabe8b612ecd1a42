//! Just enough of BER (X.690) to say whether bytes are what RFC 4511 lets a server send.

/// The bytes are no such thing; `0` says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// Walks over elements that lie beside each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element: its tag, of one byte, and what is in it. LDAP has definite lengths alone (RFC 4511, section 5.1).
    pub(super) fn next(&mut self) -> Result<(u8, &'a [u8]), Broken> {
        const CUT: Broken = Broken("an element that is whole");
        let [tag, length, rest @ ..] = self.0 else { return Err(CUT) };
        if tag & 0x1f == 0x1f {
            return Err(Broken("a tag of one byte"));
        }
        let (length, rest) = length_of(*length, rest)?;
        if rest.len() < length {
            return Err(CUT);
        }
        let (content, behind) = rest.split_at(length);
        self.0 = behind;
        Ok((*tag, content))
    }

    /// The next element, which has to have this tag.
    pub(super) fn take(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], Broken> {
        match self.next()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(Broken(what)),
        }
    }

    /// A text: an octet string of UTF-8.
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.take(OCTETS, what)?).map_err(|_| Broken(what))
    }

    /// A whole number from 0 to 2^31 - 1, under the tag of an integer or of an enumeration.
    pub(super) fn number(&mut self, tag: u8, what: &'static str) -> Result<u32, Broken> {
        let bytes = self.take(tag, what)?;
        match bytes {
            [first, ..] if bytes.len() <= 4 && *first < 0x80 => {
                Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
            }
            _ => Err(Broken(what)),
        }
    }

    pub(super) fn end(self, what: &'static str) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken(what)) }
    }
}

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// How many bytes the length takes beside its first, if it is one that LDAP has.
pub(super) fn more_of_length(first: u8) -> Result<usize, Broken> {
    match first {
        ..=0x7f => Ok(0),
        0x81..=0x84 => Ok(usize::from(first - 0x80)),
        _ => Err(Broken("a definite length")),
    }
}

fn length_of(first: u8, rest: &[u8]) -> Result<(usize, &[u8]), Broken> {
    let more = more_of_length(first)?;
    if more == 0 {
        return Ok((usize::from(first), rest));
    }
    if rest.len() < more {
        return Err(Broken("an element that is whole"));
    }
    let (bytes, rest) = rest.split_at(more);
    Ok((bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_ldap_does_not_have_are_refused() {
        for bytes in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 0xff], &[0x30], &[], &[0x30, 2, 0]]
        {
            assert!(Reader::new(bytes).next().is_err(), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0x1f, 0]).next(), Err(Broken("a tag of one byte")));
        assert_eq!(Reader::new(&[4, 0x82, 0, 1, 7, 9]).next(), Ok((4, &[7][..])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            let mut read = 0;
            while let Ok((_, content)) = reader.next() {
                read += content.len() + 2;
            }
            prop_assert!(read <= bytes.len());
        }
    }
}
