//! Everything that the library can do can be done from C. A new public function fails this test until it is said how.

use std::collections::BTreeMap;

use crate::library::root;

/// The modules whose functions do something; the others are the vocabulary, which documents and numbers carry.
const MODULES: [&str; 9] =
    ["config", "engine", "facts", "firewalld", "in_force", "policy", "render", "iptables_save", "simulate"];

/// Types that documents and numbers carry; what `kumatp_plan_apply` is made of (`netlink`), and where (`netns`: a descriptor);
/// what `KUMATP_SYNTAX_NATIVE` shows (`nftables`); pages; what is a program of its own (`cni`).
const OTHERS: [&str; 9] = ["cni", "error", "ffi", "guide", "model", "net", "netlink", "netns", "nftables"];

/// What takes the place of an engine behind the Rust trait, in tests of Rust programs. C has no such place.
const OF_RUST_ONLY: &str = "src/engine/fake";

/// How a capability is reached.
enum Reached {
    /// By this function of the C ABI.
    By(&'static str),
    /// It is a step of this function, or its data are in what the function gives.
    In(&'static str),
}
use Reached::{By, In};

const TABLE: &[(&str, Reached)] = &[
    ("config::Config::parse", By("kumatp_config_parse")),
    ("config::Config::options", In("kumatp_plan_apply")),
    ("config::Config::to_json", By("kumatp_config_to_json")),
    ("config::Config::to_yaml", By("kumatp_config_to_yaml")),
    ("config::Config::for_kuma", By("kumatp_config_for_kuma")),
    ("config::KumaDifference::find", By("kumatp_config_check")),
    ("config::KumaDifference::concerns", In("kumatp_config_check")),
    ("config::KumaDifference::to_problem", In("kumatp_config_check")),
    ("config::Key::all", By("kumatp_config_keys")),
    ("config::Key::environment", In("kumatp_config_keys")),
    ("config::Key::flag", In("kumatp_config_keys")),
    ("config::Key::in_documents", In("kumatp_config_keys")),
    ("config::Key::path", In("kumatp_config_keys")),
    // A configuration is its own first document, and an origin names its parts.
    ("config::Layers::apply", In("kumatp_config_from_layers")),
    ("config::Layers::base", In("kumatp_config_from_layers")),
    ("config::Layers::document", In("kumatp_config_from_layers")),
    ("config::Layers::environment", In("kumatp_config_from_layers")),
    ("config::Layers::finish", By("kumatp_config_from_layers")),
    ("config::Layers::flag", In("kumatp_config_from_layers")),
    ("config::Layers::new", In("kumatp_config_from_layers")),
    // Of pods and of Dataplanes: annotations and variables by key, sources and resources as documents.
    ("config::Annotation::all", In("kumatp_config_keys")),
    ("config::Annotation::expected", In("kumatp_config_from_pod")),
    ("config::Annotation::find", In("kumatp_config_keys")),
    ("config::Annotation::is_read_in", In("kumatp_config_from_pod")),
    ("config::Annotation::key", In("kumatp_config_keys")),
    ("config::Annotation::name", In("kumatp_config_keys")),
    ("config::Backend::at", In("kumatp_dataplane_reach")),
    ("config::Backend::display_name", In("kumatp_dataplane_reach")),
    ("config::Backend::namespace", In("kumatp_dataplane_reach")),
    ("config::Backend::new", In("kumatp_dataplane_reach")),
    ("config::Backend::zone", In("kumatp_dataplane_reach")),
    ("config::BackendPort::new", In("kumatp_dataplane_reach")),
    ("config::BackendRef::in_namespace", In("kumatp_dataplane_parse")),
    ("config::BackendRef::labelled", In("kumatp_dataplane_parse")),
    ("config::BackendRef::named", In("kumatp_dataplane_parse")),
    ("config::BackendRef::on_port", In("kumatp_dataplane_parse")),
    ("config::Dataplane::is_transparent", In("kumatp_dataplane_to_json")),
    ("config::Dataplane::namespace", In("kumatp_dataplane_to_json")),
    ("config::Dataplane::origins", In("kumatp_dataplane_to_json")),
    ("config::Dataplane::parse", By("kumatp_dataplane_parse")),
    ("config::Dataplane::services", In("kumatp_dataplane_to_json")),
    ("config::Dataplane::to_config", By("kumatp_config_from_dataplane")),
    ("config::Dataplane::validate", By("kumatp_dataplane_validate")),
    ("config::Dataplane::zone", In("kumatp_dataplane_to_json")),
    ("config::Destinations::backends", In("kumatp_dataplane_reach")),
    ("config::Destinations::mode", In("kumatp_dataplane_reach")),
    ("config::Destinations::new", In("kumatp_dataplane_reach")),
    ("config::Destinations::services", In("kumatp_dataplane_reach")),
    ("config::Destinations::set_mode", In("kumatp_dataplane_reach")),
    ("config::Pod::parse", In("kumatp_config_from_pod")),
    ("config::Pod::with_annotations", In("kumatp_config_from_pod")),
    ("config::Reachability::backend_rule", In("kumatp_dataplane_reach")),
    ("config::Reachability::backends", In("kumatp_dataplane_reach")),
    ("config::Reachability::by_chance", In("kumatp_dataplane_reach")),
    ("config::Reachability::by_flag", In("kumatp_dataplane_reach")),
    ("config::Reachability::choices", In("kumatp_dataplane_reach")),
    ("config::Reachability::explain", In("kumatp_dataplane_reach")),
    ("config::Reachability::notes", In("kumatp_dataplane_reach")),
    ("config::Reachability::of", By("kumatp_dataplane_reach")),
    ("config::Reachability::profile", In("kumatp_dataplane_reach")),
    ("config::Reachability::service_rule", In("kumatp_dataplane_reach")),
    ("config::Reachability::services", In("kumatp_dataplane_reach")),
    ("config::Reachability::to_json", By("kumatp_dataplane_reach")),
    ("config::Reachability::to_yaml", In("kumatp_dataplane_reach")),
    ("config::ReachableBackends::new", In("kumatp_dataplane_parse")),
    ("config::ReachableBackends::parse", In("kumatp_dataplane_parse")),
    ("config::ReachableBackends::to_json", In("kumatp_dataplane_to_json")),
    ("config::ReachableBackends::to_yaml", In("kumatp_dataplane_to_json")),
    ("config::Resolved::annotations", In("kumatp_config_from_pod")),
    ("config::Resolved::to_json", In("kumatp_config_from_pod")),
    ("config::variables", In("kumatp_config_from_pod")),
    ("config::Origin::asked_by", In("kumatp_config_from_pod")),
    ("config::Resolved::origin", In("kumatp_config_from_pod")),
    ("config::ResourceFamilyMode::to_config", In("kumatp_config_from_dataplane")),
    ("config::Resources::document", In("kumatp_dataplane_reach")),
    ("config::Resources::finish", In("kumatp_dataplane_reach")),
    ("config::Resources::new", In("kumatp_dataplane_reach")),
    ("config::Rule::allows_all", In("kumatp_dataplane_reach")),
    ("config::Service::new", In("kumatp_dataplane_reach")),
    ("config::SettingSource::is_set", In("kumatp_config_from_pod")),
    ("config::Sources::config_map", In("kumatp_config_from_pod")),
    ("config::Sources::control_plane", In("kumatp_config_from_pod")),
    ("config::Sources::custom_config_map", In("kumatp_config_from_pod")),
    ("config::Sources::new", In("kumatp_config_from_pod")),
    ("config::Sources::pod", In("kumatp_config_from_pod")),
    ("config::Sources::pod_document", In("kumatp_config_from_pod")),
    ("config::Sources::profile", In("kumatp_config_from_pod")),
    ("config::Sources::resolve", By("kumatp_config_from_pod")),
    ("config::Sources::valid_pod", In("kumatp_config_from_pod")),
    ("config::Sources::zone_proxy_only", In("kumatp_config_from_pod")),
    ("config::TransparentProxying::apply_to", In("kumatp_config_from_dataplane")),
    ("config::TransparentProxying::of", By("kumatp_config_to_transparent_proxying")),
    ("config::TransparentProxying::parse", In("kumatp_dataplane_parse")),
    ("config::TransparentProxying::to_json", In("kumatp_config_to_transparent_proxying")),
    ("config::TransparentProxying::to_yaml", In("kumatp_config_to_transparent_proxying")),
    ("config::Variable::all", In("kumatp_config_keys")),
    ("config::Variable::default_value", In("kumatp_config_from_pod")),
    ("config::Variable::find", In("kumatp_config_keys")),
    ("config::Variable::key", In("kumatp_config_keys")),
    ("config::Variable::name", In("kumatp_config_keys")),
    ("config::compare", By("kumatp_dataplane_compare")),
    ("config::fill", By("kumatp_dataplane_fill")),
    ("config::to_annotation", By("kumatp_config_to_annotation")),
    ("config::transparent_proxying", In("kumatp_config_from_pod")),
    ("engine::by_name", In("kumatp_plan_apply")),
    ("engine::Ebpf::allow_legacy_leftovers", In("kumatp_plan_apply")),
    ("engine::Ebpf::bpffs", In("kumatp_config_parse")),
    ("engine::Ebpf::cgroup", In("kumatp_config_parse")),
    ("engine::Ebpf::check", By("kumatp_plan_check")),
    ("engine::Ebpf::in_namespace", In("kumatp_plan_apply")),
    ("engine::presuming", In("kumatp_facts_probe")),
    ("engine::Ebpf::programs", In("kumatp_state_to_json")),
    ("engine::Ebpf::status", By("kumatp_state_read")),
    ("engine::Engine::abilities", In("kumatp_facts_probe")),
    ("engine::Engine::apply", By("kumatp_plan_apply")),
    ("engine::Engine::name", In("kumatp_state_engines")),
    // C has a plan made and applied by two calls, and asks before the first.
    ("engine::Engine::presumed", In("kumatp_facts_probe")),
    ("engine::Engine::uninstall", By("kumatp_uninstall")),
    ("engine::Iptables::in_path", In("kumatp_config_parse")),
    ("engine::Iptables::in_namespace", In("kumatp_plan_apply")),
    ("engine::Iptables::remove_leftovers", In("kumatp_plan_apply")),
    ("engine::Installation::name", In("kumatp_state_to_json")),
    ("engine::Netlink::allow_legacy_leftovers", In("kumatp_plan_apply")),
    ("engine::Netlink::check", By("kumatp_plan_check")),
    ("engine::Netlink::left_to_iptables", In("kumatp_plan_apply")),
    ("engine::Installed::engine", In("kumatp_installed_diff")),
    ("in_force::Installed::unknown", In("kumatp_installed_explain")),
    ("engine::Installed::earlier", In("kumatp_installed_diff")),
    ("engine::Installed::earlier_note", In("kumatp_installed_diff")),
    ("engine::installed", By("kumatp_installed_explain")),
    ("engine::preview", By("kumatp_plan_render")),
    ("engine::engine_there", In("kumatp_state_engines")),
    ("engine::state_with", In("kumatp_state_read")),
    ("engine::state", By("kumatp_state_read")),
    // Its steps are kumatp_facts_probe(), kumatp_plan_build() and this.
    ("engine::install_all", In("kumatp_plan_apply")),
    ("engine::replace_all", In("kumatp_plan_apply")),
    ("engine::replace_all_by", In("kumatp_plan_apply")),
    ("engine::uninstall_all", By("kumatp_uninstall")),
    ("facts::probe_in", By("kumatp_facts_probe")),
    ("engine::Netlink::in_namespace", In("kumatp_plan_apply")),
    ("engine::Netlink::marker", In("kumatp_state_to_json")),
    ("engine::Netlink::status", By("kumatp_state_read")),
    ("engine::Report::new", In("kumatp_plan_apply")),
    ("engine::Report::step", In("kumatp_plan_apply")),
    ("engine::add", In("kumatp_plan_apply")),
    ("engine::remove", In("kumatp_uninstall")),
    ("engine::restore", By("kumatp_resolv_conf_restore")),
    ("facts::Facts::abilities", In("kumatp_facts_to_json")),
    ("facts::Facts::capable_host", By("kumatp_facts_capable_host")),
    ("facts::Resolvers::by_interface", In("kumatp_plan_build")),
    ("facts::Resolvers::new", In("kumatp_facts_parse")),
    ("facts::Resolvers::of", In("kumatp_plan_build")),
    ("facts::Resolvers::parse", By("kumatp_resolvers_parse")),
    ("facts::loopback", In("kumatp_facts_probe")),
    ("facts::probe", By("kumatp_facts_probe")),
    ("firewalld::merge", By("kumatp_firewalld_merge")),
    ("firewalld::remove", By("kumatp_firewalld_remove")),
    ("firewalld::store", By("kumatp_firewalld_store")),
    ("firewalld::translate", By("kumatp_save_translate")),
    ("firewalld::unstore", By("kumatp_firewalld_unstore")),
    ("policy::facts_needed", In("kumatp_facts_probe")),
    ("policy::plan", By("kumatp_plan_build")),
    ("render::family", In("kumatp_plan_render")),
    ("render::native", In("kumatp_plan_render")),
    ("render::plan", By("kumatp_plan_render")),
    ("render::removal", By("kumatp_nft_removal")),
    ("render::rule", In("kumatp_plan_render")),
    ("render::ruleset", By("kumatp_plan_render")),
    ("render::translate", By("kumatp_save_translate")),
    ("iptables_save::PartialTarget::goes_on", In("kumatp_save_translate")),
    ("iptables_save::Saved::ruleset", In("kumatp_save_translate")),
    ("iptables_save::Saved::table", In("kumatp_save_translate")),
    ("iptables_save::SavedFamilies::add", In("kumatp_save_explain")),
    ("iptables_save::SavedFamilies::has", In("kumatp_save_explain")),
    ("iptables_save::SavedFamilies::parse", In("kumatp_save_explain")),
    ("iptables_save::SavedRule::comment", In("kumatp_save_translate")),
    ("iptables_save::SavedRule::parts", In("kumatp_save_translate")),
    ("iptables_save::SavedRule::target", In("kumatp_save_translate")),
    ("iptables_save::SavedTable::in_effect", In("kumatp_save_explain")),
    ("iptables_save::families", In("kumatp_save_translate")),
    ("iptables_save::parse", By("kumatp_save_translate")),
    ("iptables_save::to_json", By("kumatp_save_translate")),
    ("iptables_save::write", In("kumatp_plan_render")),
    // A packet is a document; what a test expects of it is compared with the members of the answer.
    ("simulate::AnyPacket::family", In("kumatp_plan_explain")),
    ("simulate::Diff::is_empty", In("kumatp_plan_diff")),
    ("simulate::Explanation::asked_by", In("kumatp_plan_explain")),
    ("simulate::Expectation::delivered", In("kumatp_plan_explain")),
    ("simulate::Expectation::dropped", In("kumatp_plan_explain")),
    ("simulate::Expectation::ends", In("kumatp_plan_explain")),
    ("simulate::Expectation::redirected_to", In("kumatp_plan_explain")),
    ("simulate::IpProtocol::is", In("kumatp_plan_explain")),
    ("simulate::IpProtocol::number", In("kumatp_plan_explain")),
    ("simulate::Matched::answered", In("kumatp_plan_explain")),
    ("simulate::Matched::because", In("kumatp_plan_explain")),
    ("simulate::Matched::explanation", By("kumatp_plan_explain")),
    ("simulate::Matched::in_zone", In("kumatp_plan_explain")),
    ("simulate::Matched::logged", In("kumatp_plan_explain")),
    ("simulate::Matched::unanswered", In("kumatp_plan_explain")),
    ("simulate::Outcome::deciding", In("kumatp_plan_simulate")),
    ("simulate::Outcome::key", In("kumatp_plan_simulate")),
    ("simulate::Packet::by", In("kumatp_plan_simulate")),
    ("simulate::Packet::forwarded", In("kumatp_plan_simulate")),
    ("simulate::Packet::from", In("kumatp_plan_simulate")),
    ("simulate::Packet::inbound", In("kumatp_plan_simulate")),
    ("simulate::Packet::on", In("kumatp_plan_simulate")),
    ("simulate::Packet::out", In("kumatp_plan_simulate")),
    ("simulate::Packet::outbound", In("kumatp_plan_simulate")),
    ("simulate::Packet::tracked", In("kumatp_plan_simulate")),
    ("simulate::Packet::without_socket", In("kumatp_plan_simulate")),
    ("simulate::Packets::answers", In("kumatp_plan_simulate")),
    ("simulate::Packets::check", In("kumatp_save_explain")),
    ("simulate::Planned::by", In("kumatp_installed_diff")),
    ("simulate::Planned::simulator", In("kumatp_installed_diff")),
    ("simulate::Simulator::diff", By("kumatp_plan_diff")),
    ("simulate::Simulator::edges", By("kumatp_plan_edges")),
    ("simulate::Simulator::expect", In("kumatp_plan_explain")),
    ("simulate::Simulator::expect_packet", In("kumatp_plan_explain")),
    ("simulate::Simulator::explain", By("kumatp_plan_explain")),
    ("simulate::Simulator::of", In("kumatp_plan_simulate")),
    ("simulate::Simulator::of_installed", By("kumatp_installed_explain")),
    ("simulate::Simulator::of_installed_ours", By("kumatp_installed_diff")),
    ("simulate::Simulator::of_native", In("kumatp_plan_simulate")),
    ("simulate::Simulator::of_native_table", In("kumatp_plan_simulate")),
    ("simulate::Simulator::of_ruleset", In("kumatp_plan_simulate")),
    ("simulate::Simulator::of_saved", By("kumatp_save_explain")),
    ("simulate::Simulator::of_saved_ours", By("kumatp_save_diff")),
    ("simulate::Simulator::run", By("kumatp_plan_simulate")),
    ("simulate::Simulator::send", In("kumatp_plan_simulate")),
    ("simulate::Simulator::with_loopback", In("kumatp_plan_simulate")),
    ("simulate::Simulator::with_sidecar", In("kumatp_plan_simulate")),
    ("simulate::Step::chain", In("kumatp_plan_simulate")),
    ("simulate::Step::key", In("kumatp_plan_simulate")),
    ("simulate::Step::number", In("kumatp_plan_simulate")),
    ("simulate::Step::purpose", In("kumatp_plan_simulate")),
    ("simulate::Step::rule", In("kumatp_plan_simulate")),
    ("simulate::Step::table", In("kumatp_plan_simulate")),
];

/// The public functions of a module's files, as `module::function`, and the methods of public traits.
fn public_functions(module: &str) -> Vec<String> {
    let mut functions = Vec::new();
    let source = root().join("src");
    let mut files = vec![source.join(format!("{module}.rs"))];
    let mut directories = vec![source.join(module)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    for file in files
        .iter()
        .filter(|file| file.exists() && !file.ends_with("tests.rs") && !file.to_string_lossy().contains(OF_RUST_ONLY))
    {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let mut of = String::new();
        for line in code.lines() {
            if let Some(rest) = line.strip_prefix("impl") {
                // What stands after the parameters of the impl, and after the trait.
                let rest =
                    if rest.starts_with('<') { rest.split_once("> ").map_or("", |(_, rest)| rest) } else { rest };
                let name = rest.rsplit(" for ").next().unwrap().trim();
                of = name.split(['<', ' ', '{']).next().unwrap().to_owned();
            } else if let Some(rest) = line.strip_prefix("pub trait ") {
                of = rest.split(['<', ' ', ':', '{']).next().unwrap().to_owned();
            } else if line == "}" {
                of.clear();
            }
            let is_trait = code.contains(&format!("pub trait {of} {{")) && !of.is_empty();
            let function = line
                .strip_prefix("pub fn ")
                .map(|rest| (String::new(), rest))
                .or_else(|| line.strip_prefix("    pub fn ").map(|rest| (format!("{of}::"), rest)))
                .or_else(|| line.strip_prefix("    fn ").filter(|_| is_trait).map(|rest| (format!("{of}::"), rest)));
            if let Some((of, rest)) = function {
                let name = rest.split(['(', '<']).next().unwrap();
                functions.push(format!("{module}::{of}{name}"));
            }
        }
    }
    functions.sort();
    functions.dedup();
    functions
}

#[test]
fn every_public_capability_has_its_function() {
    let header = std::fs::read_to_string(root().join("include/kumatp.h")).unwrap();
    let table: BTreeMap<_, _> = TABLE.iter().map(|(name, reached)| (*name, reached)).collect();
    assert_eq!(table.len(), TABLE.len(), "a capability is named twice");
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    let library = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        match MODULES.contains(&module) {
            true => found.extend(public_functions(module)),
            false if OTHERS.contains(&module) => {}
            false => wrong.push(format!("the module {module} is new: nothing is said of how C reaches it")),
        }
    }
    for name in &found {
        match table.get(name.as_str()) {
            None => wrong.push(format!("{name}: nothing is said of how C reaches it")),
            Some(By(function) | In(function)) => {
                if !header.contains(&format!(" {function}(")) && !header.contains(&format!("*{function}(")) {
                    wrong.push(format!("{name}: the header has no {function}"));
                }
            }
        }
    }
    wrong
        .extend(table.keys().filter(|name| !found.iter().any(|f| f == *name)).map(|name| format!("{name} is no more")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found.len() > 40, "only {} were found", found.len());
}
