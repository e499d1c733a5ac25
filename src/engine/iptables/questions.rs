//! What programs can do. The kernel is asked first, and a program only where the kernel does not say, or does not have something.

use std::rc::Rc;
use std::time::Duration;

use super::host::{Host, SAVE_LIMIT, denied};
use super::kernel::{DOCKER, Seen};
use super::legacy_tables::LegacyTables;
use super::locate::Toolset;
use super::program::Output;
use super::programs::Rules;
use crate::engine::record::Record;
use crate::error::Error;
use crate::facts::Abilities;
use crate::iptables_save::Saved;
use crate::model::{IptablesMode, Options, TableName};
use crate::net::{Family, FamilyName, V4, V6};
use crate::netlink::Extension;

/// How long a program may take to say what it knows.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The extensions that rules for this configuration can have, those of every installation first.
fn needed(config: &Options) -> Vec<Extension> {
    let mut needed = BASE.to_vec();
    if config.comments {
        needed.push(COMMENT);
    }
    if needs_zones(config) {
        needed.extend(ZONES);
    }
    if config.drop_invalid_packets && !needed.contains(&CONNTRACK) {
        needed.push(CONNTRACK);
    }
    needed
}

const BASE: [Extension; 2] = [Extension::Match("tcp"), Extension::Match("owner")];
const COMMENT: Extension = Extension::Match("comment");
const CONNTRACK: Extension = Extension::Match("conntrack");
const ZONES: [Extension; 3] = [CONNTRACK, Extension::Match("udp"), Extension::Target("CT")];

fn needs_zones(config: &Options) -> bool {
    config.conntrack_zones
}

impl Host<'_> {
    pub(super) fn abilities_of(&self, tools: &Toolset) -> Abilities {
        let mut abilities = Abilities {
            comments: !self.config.comments || self.has(tools, COMMENT),
            docker_output: self.has_docker(tools),
            ..Abilities::default()
        };
        if needs_zones(self.config) {
            abilities.conntrack_zones =
                self.has_table(tools, TableName::Raw) && ZONES.into_iter().all(|one| self.has(tools, one));
        }
        if self.config.drop_invalid_packets {
            abilities.mangle = self.has_table(tools, TableName::Mangle) && self.has(tools, CONNTRACK);
        }
        abilities
    }

    /// Whether programs have what every installation needs. The outer error is a missing privilege,
    /// which other programs would lack too.
    pub(super) fn check(&self, tools: &Toolset) -> Result<Result<(), String>, Error> {
        if self.may_look_at(tools, TableName::Nat) && !self.kernel_has_table(tools, TableName::Nat) {
            let output = self.call(tools, Which::Save, &["-t", "nat"])?;
            if output.denied() {
                return Err(denied("read the rules", &tools.save, &output));
            }
            if !output.success() {
                return Ok(Err(format!("{} has no nat table: {}", tools.save.display(), output.message())));
            }
        }
        let lacking = BASE.into_iter().find(|one| !self.has(tools, *one));
        Ok(lacking.map_or(Ok(()), |one| Err(format!("{} has no match '{}'", tools.tables.display(), one.name()))))
    }

    pub(super) fn usable(&self, tools: &Toolset) -> Result<(), String> {
        self.check(tools).map_err(|error| error.to_string()).and_then(|usable| usable)
    }

    /// Whether there are rules or chains in the tables that matter, by kumactl's measure: more lines
    /// than the table has built-in chains.
    pub(super) fn has_rules(&self, tools: &Toolset) -> bool {
        let known = tools.familiar.then(|| self.kernel.has_rules(tools)).flatten();
        known.unwrap_or_else(|| self.rules(tools, false).any)
    }

    pub(super) fn has_docker(&self, tools: &Toolset) -> bool {
        let known = tools.familiar.then(|| self.kernel.has_docker(tools)).flatten();
        known.unwrap_or_else(|| self.rules(tools, !self.config.dry_run).docker_output)
    }

    /// What there is of an older installation, as far as it does not take a listing to tell.
    pub(super) fn seen(&self, tools: &Toolset, record: &Record) -> Seen {
        // Rules without comments are known by what was noted down, and by that alone.
        match tools.familiar && record.of(tools.family, tools.mode).is_empty() {
            true => self.kernel.seen(tools).unwrap_or(Seen::Unknown),
            false => Seen::Unknown,
        }
    }

    /// The same as programs list it.
    fn rules(&self, tools: &Toolset, to_change: bool) -> Rules {
        let key = (tools.family, tools.mode, to_change && tools.is_hidden());
        if let Some(known) = self.answers.borrow().rules.get(&key) {
            return *known;
        }
        fn summary<F: Family>(saved: Option<Saved<F>>) -> Rules {
            let mut rules = Rules::default();
            for table in saved.into_iter().flat_map(|saved| saved.tables) {
                let Some(name) = TableName::OURS.into_iter().find(|name| name.as_str() == table.name) else { continue };
                rules.any |= table.chains.len() + table.rules.len() > builtin_chains(name);
                rules.docker_output |= name == TableName::Nat && table.chains.iter().any(|c| c.name == DOCKER);
            }
            rules
        }
        // Programs that cannot be used have no rules that matter; that they cannot is found elsewhere.
        let found = match (tools.family, to_change) {
            (FamilyName::V4, false) => self.look::<V4>(tools).map(summary),
            (FamilyName::V6, false) => self.look::<V6>(tools).map(summary),
            (FamilyName::V4, true) => self.look_to_change::<V4>(tools).map(summary),
            (FamilyName::V6, true) => self.look_to_change::<V6>(tools).map(summary),
        };
        let found = found.unwrap_or_default();
        self.answers.borrow_mut().rules.insert(key, found);
        found
    }

    /// Whether a table can be asked for without making it. A dry run changes nothing, so it takes a
    /// legacy table that is not there yet for one that can be made.
    fn may_look_at(&self, tools: &Toolset, table: TableName) -> bool {
        tools.mode == IptablesMode::Nft || !self.config.dry_run || LegacyTables::of(tools.family).has(table.as_str())
    }

    fn kernel_has_table(&self, tools: &Toolset, table: TableName) -> bool {
        tools.familiar && self.kernel.has_table(tools, table) == Some(true)
    }

    fn has_table(&self, tools: &Toolset, table: TableName) -> bool {
        !self.may_look_at(tools, table)
            || self.kernel_has_table(tools, table)
            || self.call(tools, Which::Save, &["-t", table.as_str()]).is_ok_and(|output| output.success())
    }

    /// Whether rules can have this, of what the configuration needs.
    fn has(&self, tools: &Toolset, extension: Extension) -> bool {
        self.presumes && tools.familiar && self.kernel.has(tools, extension) == Some(true)
            || self.has_all(tools, &needed(self.config))
            || self.has_all(tools, &[extension])
    }

    /// Whether a program has all of these: it gives help about each. It asks the kernel, too.
    fn has_all(&self, tools: &Toolset, extensions: &[Extension]) -> bool {
        let mut args = Vec::new();
        for extension in extensions {
            args.extend(match extension {
                Extension::Match(name) => ["-m", name],
                Extension::Target(name) => ["-j", name],
            });
        }
        args.push("-h");
        let Ok(output) = self.call(tools, Which::Tables, &args) else { return false };
        // Of a target, the exit status says nothing: any unknown one is taken for a chain.
        let told = |extension: &Extension| match extension {
            Extension::Match(_) => true,
            Extension::Target(name) => output.stdout.contains(&format!("{name} target options")),
        };
        output.success() && extensions.iter().all(told)
    }

    /// What a program says, which is asked once.
    fn call(&self, tools: &Toolset, which: Which, args: &[&str]) -> Result<Rc<Output>, Error> {
        let (program, limit) = match which {
            Which::Tables => (&tools.tables, ASK_LIMIT),
            Which::Save => (&tools.save, SAVE_LIMIT),
        };
        let key: Vec<_> =
            [program.display().to_string()].into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        if let Some(known) = self.answers.borrow().calls.get(&key) {
            return Ok(known.clone());
        }
        let output = Rc::new(self.runner.run(program, args, "", limit)?);
        self.answers.borrow_mut().calls.insert(key, output.clone());
        Ok(output)
    }
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Tables,
    Save,
}

/// How many built-in chains a table has for kumactl: what lists more lines has rules.
fn builtin_chains(table: TableName) -> usize {
    match table {
        TableName::Raw => 2,
        TableName::Nat => 4,
        _ => 5,
    }
}
