//! Netlink messages and attributes as bytes.

use super::constants::{NLA_F_NESTED, NLA_TYPE_MASK};

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// The length of `struct nfgenmsg`, which follows the header in every message of nfnetlink.
pub(crate) const GENERIC: usize = 4;

/// Writes messages one behind the other. Integers in attributes are big endian, as nfnetlink has
/// them; those in headers are in the order of the host.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer with room for so many bytes; it makes more where they do not do.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// A message of nfnetlink with what `body` writes.
    pub(crate) fn message(&mut self, head: Head, body: impl FnOnce(&mut Self)) {
        self.headed(head.kind, head.flags, head.sequence, |w| {
            w.bytes.extend([head.family, 0]);
            w.bytes.extend(head.resource.to_be_bytes());
            body(w);
        });
    }

    /// A message of netlink with what `body` writes behind the header.
    pub(crate) fn headed(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        // The sender's port: the kernel knows it.
        self.bytes.extend([0; 4]);
        body(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a message of less than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute with these bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |w| w.bytes.extend(value));
    }

    /// An attribute with a number.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute with a text and a NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |w| {
            w.bytes.extend(value.as_bytes());
            w.bytes.push(0);
        });
    }

    /// An attribute with the attributes that `body` writes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NLA_F_NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        // Long lists are written in pieces, and all else has a bound that is far smaller.
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute of less than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Bytes as they are.
    #[cfg(any(test, all(feature = "host", target_os = "linux")))]
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// How much is written, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds flags to the message that begins at `start`.
    pub(crate) fn add_flags(&mut self, start: usize, flags: u16) {
        if let Some(found) = array(&self.bytes, start + 6).map(u16::from_ne_bytes) {
            self.bytes[start + 6..start + 8].copy_from_slice(&(found | flags).to_ne_bytes());
        }
    }

    /// The messages.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// What stands at the beginning of a message of nfnetlink.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    pub(crate) resource: u16,
}

/// A message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The address family, and the attributes behind it, of a message of nfnetlink.
    pub(crate) fn generic(&self) -> Option<(u8, Attributes<'a>)> {
        let (generic, attributes) = self.body.split_at_checked(GENERIC)?;
        Some((generic[0], Attributes::of(attributes)))
    }
}

/// The messages in some bytes. Ends at the first that is not whole.
#[derive(Debug, Clone)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(array(self.0, 0)?)).ok()?;
        // Less than a header would make the walk stand still.
        let whole = self.0.get(..length).filter(|_| length >= HEADER)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes(array(whole, 4)?),
            flags: u16::from_ne_bytes(array(whole, 6)?),
            sequence: u32::from_ne_bytes(array(whole, 8)?),
            body: &whole[HEADER..],
        })
    }
}

/// The attributes in some bytes, by type. Ends at the first that is not whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value of the last attribute of this type, which is the one that counts for the kernel.
    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().filter(|(found, _)| *found == kind).last().map(|(_, value)| value)
    }

    /// The number in an attribute of this type.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// The text in an attribute of this type, up to a NUL.
    pub(crate) fn text(&self, kind: u16) -> Option<&'a str> {
        text(self.get(kind)?)
    }

    /// The attributes in an attribute of this type.
    pub(crate) fn nest(&self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16::from_ne_bytes(array(self.0, 0)?));
        let kind = u16::from_ne_bytes(array(self.0, 2)?) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The text before the first NUL, if it is text.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok()
}

/// `N` bytes at a place.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
