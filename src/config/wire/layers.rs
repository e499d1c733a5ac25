//! Several sources of settings, one over the other.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Format;
use super::keys::{self, ALL_DNS, ENV_PREFIX, Field, ROWS, Row};
use super::nearest::nearest;
use super::node::{self, Node};
use super::value::{Bad, ValueSource, Wire, switch, texts};
use crate::config::Config;
use crate::error::{Error, InvalidValue, Problem, visible};
use crate::model::{ChainPair, Note};

/// How many problems of one list, or unknown keys of one document, are told one by one.
const ENOUGH: usize = 100;

/// The sources of a configuration, each over the one before: defaults, documents in the order in which they are
/// added, environment variables, flags. The order of precedence is kumactl's, in whatever order the methods are called.
///
/// ```
/// use kumatp::config::{Format, Layers};
///
/// let mut layers = Layers::new();
/// layers.document("tp.json", r#"{"redirect": {"outbound": {"port": 15101}, "inbound": {"port": 15106}}}"#, Format::Json);
/// layers.environment([("KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT".to_owned(), "15201".to_owned())]);
/// layers.flag("--redirect-inbound-port", "15306");
/// let (config, notes) = layers.finish()?;
/// assert_eq!((config.redirect.outbound.port.number(), config.redirect.inbound.port.number()), (15201, 15306));
/// assert!(notes.is_empty());
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Layers {
    base: Config,
    documents: Vec<Document>,
    environment: Layer,
    flags: Layer,
}

#[derive(Debug, Default)]
struct Document {
    name: String,
    layer: Layer,
    /// Why the document as a whole is no good, if so.
    unreadable: Option<Problem>,
}

#[derive(Debug, Default)]
struct Layer {
    settings: Vec<Setting>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    /// How many notes were not made, since there are many like them.
    more_notes: usize,
}

/// A value for a key.
#[derive(Debug)]
struct Setting {
    row: &'static Row,
    /// What problems call it: the path, the variable or the flag.
    path: String,
    node: Node,
}

impl Layers {
    /// The defaults alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a configuration below all layers, where the defaults are otherwise: that of a pod, for example.
    pub fn base(&mut self, config: Config) {
        self.base = config;
    }

    /// Adds a document. Its mappings are merged into those of the documents before it, and its lists replace theirs.
    ///
    /// `name` says in messages which document is meant: the path of a file, or `-` for standard input. Paths of keys
    /// have it before them where there are several documents.
    pub fn document(&mut self, name: &str, text: &str, format: Format) {
        let mut layer = Layer::default();
        let mut unreadable = None;
        let whole = whole(name);
        match node::parse(text, format) {
            Ok(Node::Null) => {}
            Ok(Node::Map(entries)) => layer.walk(&whole, "", entries),
            Ok(other) => {
                let expected = format!("a mapping with keys such as {}", keys::children("").join(", "));
                unreadable = Some(InvalidValue::new(other.quoted(), expected).at(&whole));
            }
            Err(error) => unreadable = Some(syntax_problem(&whole, text, error)),
        }
        if layer.more_notes > 0 {
            layer.notes.push(Note::warning(&whole, format!("{} more keys are unknown or misspelt", layer.more_notes)));
        }
        self.documents.push(Document { name: whole, layer, unreadable });
    }

    /// Adds environment variables, of which those that begin with `KUMA_TRANSPARENT_PROXY_` count. Of a name that
    /// comes twice, the last value does.
    ///
    /// Items of a list are separated by commas; those of lists whose items may hold commas (for uids, gids, virtual
    /// networks) by semicolons, if there is one. An empty variable is an empty list, and is treated as not set for every
    /// other kind of value.
    pub fn environment<I>(&mut self, variables: I)
    where
        I: IntoIterator<Item = (String, String)>,
    {
        for (name, value) in variables {
            let Some(suffix) = name.strip_prefix(ENV_PREFIX) else { continue };
            match ROWS.iter().find(|row| row.env == Some(suffix)) {
                Some(row) => self.environment.settings.push(Setting { row, path: name, node: Node::Text(value) }),
                None => {
                    let near = nearest(suffix, ROWS.iter().filter_map(|row| row.env));
                    let hint = near.map(|near| format!("; did you mean `{ENV_PREFIX}{near}`?")).unwrap_or_default();
                    let text = format!("unknown environment variable{hint}");
                    self.environment.notes.push(Note::warning(visible(&name), text));
                }
            }
        }
    }

    /// Adds a flag by its name (`--redirect-dns-port`) with the text that was given to it; a switch has `true`.
    ///
    /// A list replaces what documents and variables say. Where the flag is repeated, lists of ports are replaced again,
    /// all others grow. An item that is no port or address is never split at commas. `--redirect-all-dns-traffic`
    /// switches the redirection of DNS on as well. Flags that set no key, such as `--config`, are the caller's.
    pub fn flag(&mut self, flag: &str, value: &str) {
        let mut set = |row| {
            let node = Node::Text(value.to_owned());
            self.flags.settings.push(Setting { row, path: flag.to_owned(), node });
        };
        match ROWS.iter().find(|row| row.flag == Some(flag)) {
            Some(row) => {
                set(row);
                let on = switch(&Node::Text(value.to_owned()), ValueSource::Flag { again: false });
                if flag == ALL_DNS && on.is_ok_and(|on| on) {
                    ROWS.iter().filter(|row| row.path == "redirect.dns.enabled").for_each(set);
                }
            }
            None => {
                let near = nearest(flag, ROWS.iter().filter_map(|row| row.flag));
                let hint = near.map(|near| format!(", such as {near}")).unwrap_or_default();
                self.flags.problems.push(InvalidValue::new(value, format!("a flag that sets a key{hint}")).at(flag));
            }
        }
    }

    /// The configuration, and what there is to say about it: unknown keys and variables, settings without effect.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of every layer, also of values that another layer replaces.
    pub fn finish(self) -> Result<(Config, Vec<Note>), Error> {
        let Layered { config, notes, .. } = self.apply()?;
        Ok((config, notes))
    }

    /// The same as [`finish`](Self::finish), with the keys that a layer has set.
    ///
    /// ```
    /// use kumatp::Config;
    /// use kumatp::config::Layers;
    ///
    /// let mut config = Config::default();
    /// config.redirect.inbound.exclude_ports = "22".parse()?;
    /// let mut layers = Layers::new();
    /// layers.base(config);
    /// layers.flag("--redirect-outbound-port", "15101");
    /// let layered = layers.apply()?;
    /// assert_eq!(layered.config.redirect.inbound.exclude_ports.to_string(), "22");
    /// assert_eq!(layered.set["redirect.outbound.port"], "--redirect-outbound-port");
    /// assert!(!layered.set.contains_key("redirect.inbound.excludePorts"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn apply(self) -> Result<Layered, Error> {
        let several = self.documents.len() > 1;
        let mut draft = Draft { config: self.base, ..Draft::default() };
        for Document { name, layer, unreadable } in self.documents {
            draft.problems.extend(unreadable);
            let prefix = if several { format!("{name}: ") } else { String::new() };
            draft.apply(layer, ValueSource::Document, &prefix);
        }
        let mut environment = self.environment;
        // In the order of the table, whatever the order of the variables.
        crate::sorted::by_key(&mut environment.settings, |setting| {
            ROWS.iter().position(|row| row.path == setting.row.path)
        });
        draft.apply(environment, ValueSource::Environment, "");
        draft.apply(self.flags, ValueSource::Flag { again: false }, "");
        draft.finish()
    }
}

/// What comes of [`Layers`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Layered {
    /// The configuration.
    pub config: Config,
    /// What there is to say about it.
    pub notes: Vec<Note>,
    /// The keys that a layer has set, each with what messages call it where it was set last: a path, a variable or a flag.
    pub set: BTreeMap<&'static str, String>,
}

/// What messages call a document as a whole.
fn whole(name: &str) -> String {
    if name.is_empty() { "document".to_owned() } else { visible(name) }
}

pub(in crate::config) fn syntax_problem(document: &str, text: &str, error: node::SyntaxError) -> Problem {
    let mut lines = text.lines().map(str::trim);
    let (path, line) = match error.place {
        Some((line, column)) => (format!("{document}: line {line} column {column}"), lines.nth(line.saturating_sub(1))),
        None => (document.to_owned(), lines.find(|line| !line.is_empty())),
    };
    let expected = format!("valid {}: {}", error.language, visible(&error.message));
    InvalidValue::new(line.unwrap_or_default(), expected).at(path)
}

impl Layer {
    fn note(&mut self, document: &str, text: impl FnOnce() -> String) {
        match self.notes.len() < ENOUGH {
            true => self.notes.push(Note::warning(document, visible(&text()))),
            false => self.more_notes += 1,
        }
    }

    /// Pairs the entries of a mapping at `group` with rows.
    fn walk(&mut self, document: &str, group: &str, entries: Vec<(String, Node)>) {
        let names = keys::children(group);
        let join = |name: &str| if group.is_empty() { name.to_owned() } else { format!("{group}.{name}") };
        let mut seen: HashMap<&str, bool> = HashMap::new();
        for (key, node) in entries {
            let exact = names.iter().copied().find(|name| *name == key);
            let Some(name) = exact.or_else(|| names.iter().copied().find(|name| name.eq_ignore_ascii_case(&key)))
            else {
                self.note(document, || unknown(&join(&key), &key, &names));
                continue;
            };
            if exact.is_none() {
                // kumactl does not mind the case, so the value must not be lost.
                self.note(document, || format!("the key `{}` is read as `{}`", join(&key), join(name)));
            }
            let path = join(name);
            if let Some(reported) = seen.get_mut(name) {
                if !std::mem::replace(reported, true) {
                    self.problems.push(InvalidValue::new(node.quoted(), "the key only once").at(path));
                }
                continue;
            }
            seen.insert(name, false);
            match (keys::in_document(&path), node) {
                (_, Node::Null) => {}
                (Some(row), node) => self.settings.push(Setting { row, path, node }),
                (None, Node::Map(entries)) => self.walk(document, &path, entries),
                (None, node) => {
                    let expected = format!("a mapping with keys such as {}", keys::children(&path).join(", "));
                    self.problems.push(InvalidValue::new(node.quoted(), expected).at(path));
                }
            }
        }
    }
}

/// What to say about a key that no row has.
fn unknown(path: &str, key: &str, siblings: &[&'static str]) -> String {
    let elsewhere = || {
        let leaf = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
        let flag = format!("--{key}");
        let mut rows = ROWS
            .iter()
            .filter(|row| row.in_documents() && row.path != path)
            .filter(|row| leaf(row.path).eq_ignore_ascii_case(key) || row.flag.is_some_and(|name| name == flag));
        // With two candidates, naming one would be a guess.
        rows.next().filter(|_| rows.next().is_none()).map(|row| row.path)
    };
    let near = nearest(key, siblings.iter().copied()).or_else(elsewhere);
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("unknown key `{path}`{hint}")
}

/// One source of settings by itself, for those who weigh several by rules of their own.
#[derive(Debug, Default)]
pub(in crate::config) struct Reading(Draft);

impl Reading {
    /// What a document says. Problems have `prefix` before the path of the key.
    pub(in crate::config) fn document(name: &str, text: &str, format: Format, prefix: &str) -> Self {
        let mut layers = Layers::new();
        layers.document(name, text, format);
        let mut draft = Draft::default();
        for Document { layer, unreadable, .. } in layers.documents {
            draft.problems.extend(unreadable);
            draft.apply(layer, ValueSource::Document, prefix);
        }
        Self(draft)
    }

    /// Takes a value for a key over as well; `path` is what problems call it.
    pub(in crate::config) fn set(&mut self, key: &str, path: &str, node: Node, source: ValueSource) {
        if let Some(row) = ROWS.iter().find(|row| row.path == key) {
            self.0.set(&Setting { row, path: path.to_owned(), node }, source, "");
        }
    }

    /// The value of a key as documents write it, if the source has a good one. A port that is 0 comes with the problem
    /// that this is where something is redirected there.
    pub(in crate::config) fn value(&mut self, key: &'static str) -> Option<(serde_json::Value, Option<Problem>)> {
        self.0.origins.get(key)?;
        let row = ROWS.iter().find(|row| row.path == key)?;
        let (Field::Value(at) | Field::Port(at, _)) = row.field else { return None };
        match self.0.zeros.get(key) {
            Some(problem) => Some((0.into(), Some(problem.clone()))),
            None => Some((at(&mut self.0.config).write(), None)),
        }
    }

    /// What messages call the key where this source has a good value for it.
    pub(in crate::config) fn path(&self, key: &str) -> Option<&str> {
        self.0.origins.get(key).map(String::as_str)
    }

    /// All problems and notes of the source. Ports that are 0 are none yet.
    pub(in crate::config) fn remarks(&mut self) -> (Vec<Problem>, Vec<Note>) {
        (std::mem::take(&mut self.0.problems), std::mem::take(&mut self.0.notes))
    }
}

/// A configuration in the making.
#[derive(Debug, Default)]
struct Draft {
    config: Config,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    /// The ports that are 0 so far, which matters only if they are used in the end.
    zeros: HashMap<&'static str, Problem>,
    /// Where each key was set last, as problems call it.
    origins: HashMap<&'static str, String>,
}

impl Draft {
    fn apply(&mut self, layer: Layer, source: ValueSource, prefix: &str) {
        self.notes.extend(layer.notes);
        self.problems.extend(layer.problems.into_iter().map(|mut problem| {
            problem.path.insert_str(0, prefix);
            problem
        }));
        let mut flags = HashSet::new();
        for setting in layer.settings {
            let source = match source {
                ValueSource::Flag { .. } => ValueSource::Flag { again: !flags.insert(setting.row.path) },
                other => other,
            };
            self.set(&setting, source, prefix);
        }
    }

    fn set(&mut self, Setting { row, path, node }: &Setting, source: ValueSource, prefix: &str) {
        let path = format!("{prefix}{path}");
        let empty = source == ValueSource::Environment && matches!(node, Node::Text(text) if text.trim().is_empty());
        let result = match row.field {
            Field::Value(at) => {
                let value = at(&mut self.config);
                if empty && !value.is_list() {
                    return;
                }
                value.read(node, source)
            }
            Field::Port(..) if empty => return,
            Field::Port(at, _) => self.set_port(row, at, node, source, &path),
            Field::EmptyList(reason) => {
                let refuse = |index, value: String| Bad { index, error: InvalidValue::new(value, reason) };
                let refused = texts(node, source, &[';'], reason)
                    .into_iter()
                    .map(|text| match text {
                        Ok(text) => refuse(text.index, text.text.to_owned()),
                        Err(bad) => bad,
                    })
                    .collect::<Vec<_>>();
                if refused.is_empty() { Ok(()) } else { Err(refused) }
            }
            Field::Unneeded(_) => {
                if !node.says_nothing() {
                    self.origins.insert(row.path, path);
                }
                return;
            }
        };
        match result {
            Ok(()) => {
                self.origins.insert(row.path, path);
            }
            Err(bad) => self.refuse(&path, bad),
        }
    }

    fn set_port(
        &mut self,
        row: &Row,
        at: fn(&mut Config) -> &mut dyn Wire,
        node: &Node,
        source: ValueSource,
        path: &str,
    ) -> Result<(), Vec<Bad>> {
        let zero = node.scalar().map(str::trim).is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b == b'0'));
        let result = at(&mut self.config).read(node, source);
        match (result, zero) {
            (Err(mut bad), true) => {
                // Nothing said yet: what is redirected there may be switched off elsewhere.
                let default = at(&mut Config::default()).write().to_string();
                let _ = at(&mut self.config).read(&Node::Number(default), source);
                if let Some(bad) = bad.pop() {
                    self.zeros.insert(row.path, bad.error.at(path));
                }
                Ok(())
            }
            (Ok(()), _) => {
                self.zeros.remove(row.path);
                Ok(())
            }
            (result, false) => result,
        }
    }

    /// Notes what is bad about a value; of very long lists only the beginning, and how much more there is.
    fn refuse(&mut self, path: &str, mut bad: Vec<Bad>) {
        let more = bad.len().saturating_sub(ENOUGH);
        bad.truncate(ENOUGH);
        self.problems.extend(bad.into_iter().map(|Bad { index, error }| match index {
            Some(index) => error.at(format!("{path}[{index}]")),
            None => error.at(path),
        }));
        if let Some(last) = self.problems.last_mut().filter(|_| more > 0) {
            last.expected.push_str(&format!(" ({more} more items of this list are not valid)"));
        }
    }

    fn finish(mut self) -> Result<Layered, Error> {
        for row in ROWS {
            match row.field {
                Field::Port(_, used) if used(&self.config) => self.problems.extend(self.zeros.remove(row.path)),
                _ => {}
            }
        }
        self.distinct_chains();
        if !self.problems.is_empty() {
            return Err(Error::Config(self.problems));
        }
        self.unneeded();
        let incomplete = self.config.iptables_executables.incomplete();
        if !incomplete.is_empty() {
            self.notes.push(Note::warning(
                "iptablesExecutables",
                format!("{} has no effect, since all three programs of a family are needed", incomplete.join(", ")),
            ));
        }
        Ok(Layered { config: self.config, notes: self.notes, set: crate::sorted::map(self.origins) })
    }

    /// Says what other programs need for what is asked for, and this one does not.
    fn unneeded(&mut self) {
        if !self.config.ebpf.enabled {
            return;
        }
        for row in ROWS {
            if let (Field::Unneeded(reason), Some(path)) = (row.field, self.origins.get(row.path)) {
                self.notes.push(Note::warning(path, format!("not needed, since {reason}")));
            }
        }
    }

    /// The four chains must have four names.
    fn distinct_chains(&mut self) {
        let (inbound, outbound) = (&self.config.redirect.inbound.chains, &self.config.redirect.outbound.chains);
        let chains = [
            ("redirect.inbound.chainName", &inbound.decide),
            ("redirect.inbound.redirectChainName", &inbound.redirect),
            ("redirect.outbound.chainName", &outbound.decide),
            ("redirect.outbound.redirectChainName", &outbound.redirect),
        ];
        for (index, (path, name)) in chains.iter().enumerate() {
            for (other_path, other) in &chains[..index] {
                if name != other {
                    continue;
                }
                // Whichever was set, not the one that has its default.
                let (path, taken_by) =
                    if self.origins.contains_key(path) { (path, other_path) } else { (other_path, path) };
                let origin = self.origins.get(path).map_or(*path, String::as_str);
                let taken_by = self.origins.get(taken_by).map_or(*taken_by, String::as_str);
                let expected = format!("a name that no other chain has, unlike that of {taken_by}");
                let value = name.as_str().strip_prefix(ChainPair::PREFIX).unwrap_or(name.as_str());
                self.problems.push(InvalidValue::new(value, expected).at(origin));
            }
        }
    }
}
