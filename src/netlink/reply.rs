use super::batch::{Finished, Object};
use super::constants::*;
use super::wire::{Attributes, GENERIC, HEADER, Messages, array, text};

/// What the kernel said to a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReply {
    /// Whether the last message was acknowledged.
    pub acknowledged: bool,
    /// What failed. If anything did, nothing was carried out.
    pub failures: Vec<Failure>,
}

/// A message of a batch that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The error number.
    pub errno: i32,
    /// What the message was about; none if the kernel named a message that was not sent.
    pub object: Option<Object>,
    /// The name of the expression that was at fault, where the kernel said so: what to look for is
    /// the kernel's module `nft_…` of that name.
    pub expression: Option<String>,
    /// What the kernel said besides.
    pub message: Option<String>,
}

impl BatchReply {
    /// Adds what a datagram of replies says. Anything but errors and acknowledgements is passed over.
    pub fn read(&mut self, batch: &Finished, replies: &[u8]) {
        for message in Messages(replies).filter(|message| message.kind == NLMSG_ERROR) {
            let Some(code) = array(message.body, 0).map(i32::from_ne_bytes) else { continue };
            if code == 0 {
                self.acknowledged |= message.sequence == batch.last;
                continue;
            }
            // The body: the error, then the header of the message that it is about, then, unless it
            // was cut off, the rest of that message.
            let request =
                array(message.body, 4).map(u32::from_ne_bytes).and_then(|length| usize::try_from(length).ok());
            let cut = message.flags & NLM_F_CAPPED != 0;
            let more = match (message.flags & NLM_F_ACK_TLVS != 0, cut, request) {
                (true, true, _) => message.body.get(4 + HEADER..),
                (true, false, Some(length)) => message
                    .body
                    .get(length.checked_next_multiple_of(4).and_then(|l| l.checked_add(4)).unwrap_or(usize::MAX)..),
                _ => None,
            };
            let more = Attributes::of(more.unwrap_or_default());
            let index = message.sequence.checked_sub(1).and_then(|index| usize::try_from(index).ok());
            // Offsets and lengths in these attributes are in the order of the host.
            let offset = more.get(NLMSGERR_ATTR_OFFS).and_then(|value| array(value, 0)).map(u32::from_ne_bytes);
            self.failures.push(Failure {
                errno: code.checked_neg().unwrap_or(code),
                object: index.and_then(|index| batch.objects.get(index)).cloned(),
                expression: index.zip(offset).and_then(|(index, offset)| batch.expression_at(index, offset)),
                message: more.get(NLMSGERR_ATTR_MSG).and_then(text).map(str::to_owned),
            });
        }
    }
}

impl Finished {
    /// The name of the expression at a place in a message.
    fn expression_at(&self, index: usize, offset: u32) -> Option<String> {
        let offset = usize::try_from(offset).ok()?;
        let message = self.bytes.get(*self.starts.get(index)?..)?;
        let mut rest = Attributes::of(message.get(HEADER + GENERIC..)?);
        let mut at = HEADER + GENERIC;
        let list = find(&mut rest, &mut at, |kind, start, end| {
            kind == NFTA_RULE_EXPRESSIONS && (start..end).contains(&offset)
        })?;
        // `at` is where the list begins; its elements are behind its own header.
        let mut at = at + 4;
        let element = find(&mut Attributes::of(list), &mut at, |_, start, end| (start..end).contains(&offset))?;
        Attributes::of(element).text(NFTA_EXPR_NAME).map(str::to_owned)
    }
}

/// The value of the first attribute that is wanted, by its type, beginning and end. `at` is where the
/// attributes begin, and then where the one that was found does.
fn find<'a>(
    attributes: &mut Attributes<'a>,
    at: &mut usize,
    wanted: impl Fn(u16, usize, usize) -> bool,
) -> Option<&'a [u8]> {
    for (kind, value) in attributes {
        let end = *at + (4 + value.len()).next_multiple_of(4);
        if wanted(kind, *at, end) {
            return Some(value);
        }
        *at = end;
    }
    None
}
