use super::constants::*;
use super::content::{BaseContent, ChainContent, Content, Element, RuleContent, SetContent};
use super::expression::Expression;
use super::wire::{Attributes, Messages};
use crate::error::visible;
use crate::net::FamilyName;
use crate::nftables::TABLE;

/// What was found of our tables. Nothing of any other table is in it.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Dump {
    /// The table of the family `ip`, if there is one.
    pub v4: Option<Content>,
    /// The table of the family `ip6`, if there is one.
    pub v6: Option<Content>,
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
        let mut dump = Self::default();
        dump.read(messages)?;
        dump.finish();
        Ok(dump)
    }

    /// The families that have a table of ours.
    pub fn families(&self) -> Vec<FamilyName> {
        FamilyName::ALL.into_iter().filter(|family| self.of(*family).is_some()).collect()
    }

    /// The table of a family.
    pub fn of(&self, family: FamilyName) -> Option<&Content> {
        match family {
            FamilyName::V4 => self.v4.as_ref(),
            FamilyName::V6 => self.v6.as_ref(),
        }
    }

    /// Adds what some messages say.
    pub(super) fn read(&mut self, messages: &[u8]) -> Result<(), InvalidDump> {
        for message in Messages(messages) {
            let Some((family, attributes)) = message.generic() else { continue };
            let slot = match family {
                NFPROTO_IPV4 => &mut self.v4,
                NFPROTO_IPV6 => &mut self.v6,
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
                (message::NEWSETELEM, Some(content)) => elements(content, &attributes)?,
                (message::NEWRULE, Some(content)) => rule(content, &attributes)?,
                (message::NEWCHAIN | message::NEWSET | message::NEWSETELEM | message::NEWRULE, None) => {
                    return Err(InvalidDump("something in a table that was not listed".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// To be called after the last messages.
    pub(super) fn finish(&mut self) {
        for set in [&mut self.v4, &mut self.v6].into_iter().flatten().flat_map(|content| &mut content.sets) {
            set.elements.retain(|element| !element.is_end_at_0());
            // Sorted as keys are; an end and a beginning never have the same key, as adjacent
            // intervals are one.
            set.elements.sort_unstable();
        }
        for (family, slot) in [(FamilyName::V4, &mut self.v4), (FamilyName::V6, &mut self.v6)] {
            if slot.take_if(|content| !content.is_ours()).is_some() {
                self.taken.push(family);
            }
        }
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
        elements: Vec::new(),
    })
}

fn elements(content: &mut Content, attributes: &Attributes<'_>) -> Result<(), InvalidDump> {
    let name = attributes.text(NFTA_SET_ELEM_LIST_SET).unwrap_or_default();
    let Some(set) = content.sets.iter_mut().find(|set| set.name == name) else {
        return Err(InvalidDump(format!("elements of the set '{}', which was not listed", visible(name))));
    };
    let list = attributes.nest(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    set.elements.extend(list.filter_map(|(_, element)| {
        let element = Attributes::of(element);
        let key = element.nest(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?.to_vec();
        Some(Element { key, flags: element.number(NFTA_SET_ELEM_FLAGS).unwrap_or(0) })
    }));
    Ok(())
}

fn rule(content: &mut Content, attributes: &Attributes<'_>) -> Result<(), InvalidDump> {
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
