use super::Context;
use crate::model::{BuiltinChain, Chain, CtState, Match, Note, Rule, Table, TableName, Target};
use crate::net::Family;

const KEY: &str = "dropInvalidPackets";

pub(super) fn table<F: Family>(context: &Context<'_, F>, notes: &mut Vec<Note>) -> Table<F> {
    let mut prerouting = Chain::builtin(BuiltinChain::Prerouting);
    if context.config.drop_invalid_packets {
        if context.facts.abilities::<F>().mangle {
            // A packet that connection tracking calls invalid is not translated back, so it would
            // reach the workload directly, and the workload would reset the connection.
            prerouting.push(
                Rule::new(Target::Drop)
                    .with(Match::CtState { state: CtState::Invalid, negated: false })
                    .comment("drop what connection tracking finds invalid, as it would bypass the sidecar")
                    .because(KEY),
            );
        } else {
            notes.push(Note::warning(
                KEY,
                format!("mangle left out for {}: the host lacks the table, or the match on connection state", F::NAME),
            ));
        }
    }
    Table::new(TableName::Mangle, [prerouting])
}
