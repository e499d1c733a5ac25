use std::sync::Arc;

use super::constants::*;
use super::elements::{Elements, Reader};
use super::expression::Expression;
use super::kernel_table::{BaseContent, ChainContent, KernelTable, RuleContent, SetContent};
use super::wire::{Attributes, Messages};
use crate::error::visible;
use crate::net::FamilyName;
use crate::nftables::TABLE;

/// What was found of our tables. Nothing of any other table is in it.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Dump {
    /// The table of the family `ip`, if there is one.
    pub v4: Option<KernelTable>,
    /// The table of the family `ip6`, if there is one.
    pub v6: Option<KernelTable>,
    /// The families in which somebody else has a table of the same name: one that has neither the marker's chain nor a
    /// rule with a comment of ours.
    pub taken: Vec<FamilyName>,
}

/// Why a dump could not be read: it names something that it should have listed before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's list of rules is not understood: {0}")]
pub struct InvalidDump(String);

impl Dump {
    /// Reads the messages of a dump: tables, then chains and sets, then elements and rules.
    ///
    /// # Errors
    /// If a rule is in a chain, or an element in a set, that was not listed before.
    pub fn decode(messages: &[u8]) -> Result<Self, InvalidDump> {
        let mut decoder = Decoder::default();
        decoder.read(messages)?;
        Ok(decoder.finish())
    }

    /// The families that have a table of ours.
    pub fn families(&self) -> Vec<FamilyName> {
        FamilyName::ALL.into_iter().filter(|family| self.of(*family).is_some()).collect()
    }

    /// The table of a family.
    pub fn of(&self, family: FamilyName) -> Option<&KernelTable> {
        match family {
            FamilyName::V4 => self.v4.as_ref(),
            FamilyName::V6 => self.v6.as_ref(),
        }
    }
}

/// Reads a dump piece by piece.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// What was read so far, without the elements of sets.
    pub(super) dump: Dump,
    /// Of sets whose elements are being listed.
    readers: Vec<(FamilyName, String, Reader)>,
}

impl Decoder {
    /// To be called before the elements of a set are listed, also where they are listed again from the beginning. Those that are
    /// as in `expected` are only compared with it, and not kept.
    pub(super) fn begin(&mut self, family: FamilyName, name: &str, expected: Option<&KernelTable>) {
        self.readers.retain(|(of, set, _)| (*of, &**set) != (family, name));
        let find = |content: Option<&KernelTable>| {
            let set = content?.sets.iter().find(|set| set.name == name)?;
            Some((set.key_len as usize, set.elements.clone()))
        };
        let Some((width, _)) = find(self.dump.of(family)) else { return };
        let spans = match find(expected) {
            Some((_, Elements::Intervals(spans))) => spans,
            _ => Arc::default(),
        };
        self.readers.push((family, name.to_owned(), Reader::new(width, spans)));
    }

    /// Adds what some messages say.
    pub(super) fn read(&mut self, messages: &[u8]) -> Result<(), InvalidDump> {
        for message in Messages(messages) {
            let Some((number, attributes)) = message.generic() else { continue };
            let (family, slot) = match number {
                NFPROTO_IPV4 => (FamilyName::V4, &mut self.dump.v4),
                NFPROTO_IPV6 => (FamilyName::V6, &mut self.dump.v6),
                _ => continue,
            };
            // The table's name is attribute 1 of all of them.
            if attributes.text(NFTA_TABLE_NAME) != Some(TABLE) {
                continue;
            }
            match (message.kind, slot) {
                (message::NEWTABLE, slot) => {
                    slot.get_or_insert_default().flags = attributes.number(NFTA_TABLE_FLAGS).unwrap_or(0);
                }
                (message::NEWCHAIN, Some(content)) => content.chains.extend(chain(&attributes)),
                (message::NEWSET, Some(content)) => content.sets.extend(set(&attributes)),
                (message::NEWSETELEM, Some(_)) => self.elements(family, &attributes)?,
                (message::NEWRULE, Some(content)) => rule(content, &attributes)?,
                (message::NEWCHAIN | message::NEWSET | message::NEWSETELEM | message::NEWRULE, None) => {
                    return Err(InvalidDump("something in a table that was not listed".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn elements(&mut self, family: FamilyName, attributes: &Attributes<'_>) -> Result<(), InvalidDump> {
        let name = attributes.text(NFTA_SET_ELEM_LIST_SET).unwrap_or_default();
        let place = |readers: &[(FamilyName, String, Reader)]| {
            readers.iter().position(|(of, set, _)| (*of, &**set) == (family, name))
        };
        if place(&self.readers).is_none() {
            self.begin(family, name, None);
        }
        let Some((_, _, reader)) = place(&self.readers).and_then(|at| self.readers.get_mut(at)) else {
            return Err(InvalidDump(format!("elements of the set '{}', which was not listed", visible(name))));
        };
        for (_, element) in attributes.nest(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default() {
            let (mut key, mut flags, mut more) = (None, 0, false);
            for (kind, value) in Attributes::of(element) {
                match kind {
                    NFTA_SET_ELEM_KEY => key = Attributes::of(value).get(NFTA_DATA_VALUE),
                    NFTA_SET_ELEM_FLAGS => flags = value.try_into().map_or(0, u32::from_be_bytes),
                    // What nft notes for itself.
                    NFTA_SET_ELEM_USERDATA | NFTA_SET_ELEM_PAD => {}
                    _ => more = true,
                }
            }
            if let Some(key) = key {
                reader.push(key, flags, more);
            }
        }
        Ok(())
    }

    /// What was read, to be called after the last messages.
    pub(super) fn finish(self) -> Dump {
        let Self { mut dump, readers } = self;
        for (family, name, reader) in readers {
            let content = match family {
                FamilyName::V4 => &mut dump.v4,
                FamilyName::V6 => &mut dump.v6,
            };
            if let Some(set) = content.iter_mut().flat_map(|content| &mut content.sets).find(|set| set.name == name) {
                set.elements = reader.finish();
            }
        }
        for (family, slot) in [(FamilyName::V4, &mut dump.v4), (FamilyName::V6, &mut dump.v6)] {
            if slot.take_if(|content| !content.is_ours()).is_some() {
                dump.taken.push(family);
            }
        }
        dump
    }
}

fn chain(attributes: &Attributes<'_>) -> Option<ChainContent> {
    let base = attributes.nest(NFTA_CHAIN_HOOK).and_then(|hook| {
        Some(BaseContent {
            kind: attributes.text(NFTA_CHAIN_TYPE)?.to_owned(),
            hook: hook.number(NFTA_HOOK_HOOKNUM)?,
            // The same bits, signed.
            priority: hook.number(NFTA_HOOK_PRIORITY)? as i32,
            policy: attributes.number(NFTA_CHAIN_POLICY).unwrap_or(BaseContent::ACCEPT),
        })
    });
    Some(ChainContent { name: attributes.text(NFTA_CHAIN_NAME)?.to_owned(), base, rules: Vec::new() })
}

fn set(attributes: &Attributes<'_>) -> Option<SetContent> {
    Some(SetContent {
        name: attributes.text(NFTA_SET_NAME)?.to_owned(),
        flags: attributes.number(NFTA_SET_FLAGS).unwrap_or(0),
        key_type: attributes.number(NFTA_SET_KEY_TYPE).unwrap_or(0),
        key_len: attributes.number(NFTA_SET_KEY_LEN).unwrap_or(0),
        elements: Elements::default(),
    })
}

fn rule(content: &mut KernelTable, attributes: &Attributes<'_>) -> Result<(), InvalidDump> {
    let name = attributes.text(NFTA_RULE_CHAIN).unwrap_or_default();
    let Some(chain) = content.chains.iter_mut().find(|chain| chain.name == name) else {
        return Err(InvalidDump(format!("a rule of the chain '{}', which was not listed", visible(name))));
    };
    let list = attributes.nest(NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    chain.rules.push(RuleContent {
        expressions: list.map(|(_, expression)| Expression::read(&Attributes::of(expression))).collect(),
        userdata: attributes.get(NFTA_RULE_USERDATA).unwrap_or_default().to_vec(),
    });
    Ok(())
}
