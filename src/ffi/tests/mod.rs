use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use serde_json::Value;

use super::boundary::{ErrorSlot, NUL_TERMINATED, guard};
use super::*;
use crate::error::Error;

mod dataplanes;
mod pods;
mod rules;
mod simulate;

/// What a call gave: the handle, or the status with the parts of the error.
type Given<T> = Result<*mut T, (kumatp_status, String, Option<String>)>;

/// Calls a function with an output and an error slot, and checks what holds for every call.
fn call<T>(function: impl FnOnce(*mut *mut T, *mut *mut kumatp_error) -> kumatp_status) -> Given<T> {
    let (mut out, mut err) = (null_mut(), null_mut());
    let status = function(&raw mut out, &raw mut err);
    if status == KUMATP_OK {
        assert!(!out.is_null() && err.is_null());
        return Ok(out);
    }
    assert!(out.is_null(), "an output is written only on success");
    // SAFETY: a failed call has given the error out, and it is freed at the end.
    unsafe {
        assert_eq!(kumatp_error_status(err), status);
        let message = CStr::from_ptr(kumatp_error_message(err)).to_str().unwrap().to_owned();
        let field = kumatp_error_field(err);
        let field = (!field.is_null()).then(|| CStr::from_ptr(field).to_str().unwrap().to_owned());
        kumatp_error_free(err);
        Err((status, message, field))
    }
}

fn take(text: Given<kumatp_text>) -> String {
    let text = text.unwrap();
    // SAFETY: given out by a call, and freed here.
    unsafe {
        let copy = CStr::from_ptr(kumatp_text_data(text)).to_str().unwrap().to_owned();
        assert_eq!(copy.len(), kumatp_text_len(text));
        kumatp_text_free(text);
        copy
    }
}

fn json(text: Given<kumatp_text>) -> Value {
    serde_json::from_str(&take(text)).unwrap()
}

fn data(text: &str) -> (*const c_char, usize) {
    (text.as_ptr().cast(), text.len())
}

fn parse(text: &str) -> Given<kumatp_config> {
    let (data, len) = data(text);
    // SAFETY: a text that outlives the call, and slots of `call`.
    call(|out, err| unsafe { kumatp_config_parse(data, len, KUMATP_FORMAT_YAML, out, err) })
}

/// A plan for a host that can do everything.
fn plan(config: &str) -> *mut kumatp_plan {
    let config = parse(config).unwrap();
    // SAFETY: handles that calls have given out, freed after their use.
    unsafe {
        let facts = call(|out, err| kumatp_facts_capable_host(5678, out, err)).unwrap();
        let plan = call(|out, err| kumatp_plan_build(config, facts, out, err)).unwrap();
        kumatp_config_free(config);
        kumatp_facts_free(facts);
        plan
    }
}

fn render(plan: *const kumatp_plan, syntax: u32, family: u32, flags: u32) -> Given<kumatp_text> {
    // SAFETY: `plan` is not freed yet.
    call(|out, err| unsafe { kumatp_plan_render(plan, syntax, family, flags, out, err) })
}

#[test]
fn a_panic_is_a_status() {
    let mut err = null_mut();
    // SAFETY: the slot outlives the call.
    let slot = unsafe { ErrorSlot::new(&raw mut err) };
    assert_eq!(guard(slot, || panic!("a port of {}", 70000)), KUMATP_E_INTERNAL);
    // SAFETY: the call has failed, so it has given an error out.
    unsafe {
        assert_eq!(CStr::from_ptr(kumatp_error_message(err)), c"bug in kumatp: a port of 70000");
        kumatp_error_free(err);
        assert_eq!(guard(ErrorSlot::new(null_mut()), || panic!("nobody listens")), KUMATP_E_INTERNAL);
    }
}

#[test]
fn a_refusal_by_the_system_keeps_its_number_and_status_where_a_step_wraps_it() {
    let told = |error: Error| {
        let mut err = null_mut();
        // SAFETY: the slot outlives the call, which fails and so gives an error out; it is freed at the end.
        unsafe {
            let status = guard(ErrorSlot::new(&raw mut err), || Err(error.into()));
            assert_eq!(kumatp_error_status(err), status);
            let message = CStr::from_ptr(kumatp_error_message(err)).to_str().unwrap().to_owned();
            let told = (status, kumatp_error_errno(err), message);
            kumatp_error_free(err);
            told
        }
    };
    let conflict = || Error::Conflict { problem: "older programs stay".into(), remedy: "uninstall".into() };
    let refused = |errno| Error::io("remove the link", &std::io::Error::from_raw_os_error(errno));
    let text = conflict().to_string();
    assert_eq!(told(conflict()), (KUMATP_E_CONFLICT, 0, text.clone()));
    assert_eq!(told(conflict().because(refused(1))), (KUMATP_E_OS, 1, text.clone()));
    assert_eq!(told(conflict().because(conflict().because(refused(28)))), (KUMATP_E_OS, 28, text.clone()));
    let privilege = Error::Permission { action: "remove the link".into(), needed: "CAP_BPF".into() };
    assert_eq!(told(conflict().because(privilege)), (KUMATP_E_PERMISSION, 0, text.clone()));
    // What an older installation leaves, beside the failure itself.
    let several = Error::Several(vec![conflict().because(refused(16)), refused(16)]);
    assert_eq!(told(several), (KUMATP_E_OS, 16, format!("{text}\n{}", refused(16))));
    // A program's failure is of the kind that the step makes of it.
    let program = Error::Program { program: "iptables".into(), status: "exit status 4".into(), message: "no".into() };
    let unsupported = Error::Unsupported { what: "rules that name a user".into(), remedy: "use netlink".into() };
    assert_eq!(told(unsupported.because(program)).0, KUMATP_E_UNSUPPORTED);
}

#[test]
fn texts_are_checked_before_they_are_read() {
    let refused = |data: *const c_char, len: usize| {
        // SAFETY: what is given is not read further than the test says.
        let given = call(|out, err| unsafe { kumatp_config_parse(data, len, KUMATP_FORMAT_YAML, out, err) });
        let (status, message, field) = given.unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_ARGUMENT, Some("text")));
        message
    };
    assert_eq!(refused(null(), 3), "text: must not be NULL");
    assert_eq!(refused(null(), NUL_TERMINATED), "text: must not be NULL");
    let short = c"x";
    assert_eq!(
        refused(short.as_ptr(), KUMATP_MAX_TEXT + 1),
        "text: expected at most 67108864 bytes, and was given 67108865",
        "a text of two bytes is there"
    );
    assert_eq!(refused(c"ab\xff".as_ptr(), 3), "text: expected UTF-8, and was given the byte 0xff at offset 2");
    let endless = vec![b' '; KUMATP_MAX_TEXT + 1];
    assert!(refused(endless.as_ptr().cast(), NUL_TERMINATED).contains("no NUL"));
    // SAFETY: an empty text needs no pointer.
    let empty = call(|out, err| unsafe { kumatp_config_parse(null(), 0, KUMATP_FORMAT_JSON, out, err) }).unwrap();
    // SAFETY: given out above.
    unsafe { kumatp_config_free(empty) };
}

#[test]
fn every_pointer_is_checked() {
    // SAFETY: NULL is what is tested, and every other pointer is a text or slot that outlives its call.
    unsafe {
        let (text, len) = data("{}");
        let config = parse("").unwrap();
        let facts = call(|out, err| kumatp_facts_capable_host(5678, out, err)).unwrap();
        let plan = plan("");
        let (resource, resource_len) = data(r#"{"type": "Dataplane", "name": "a"}"#);
        let dataplane =
            call(|out, err| kumatp_dataplane_parse(resource, resource_len, KUMATP_FORMAT_JSON, out, err)).unwrap();
        let no_text = null_mut::<*mut kumatp_text>();
        let calls: &[(&str, &dyn Fn(*mut *mut kumatp_error) -> kumatp_status)] = &[
            ("out", &|e| kumatp_config_parse(text, len, KUMATP_FORMAT_JSON, null_mut(), e)),
            ("out", &|e| kumatp_config_from_layers(text, len, null_mut(), e)),
            ("out", &|e| kumatp_config_check(text, len, KUMATP_FORMAT_JSON, no_text, e)),
            ("out", &|e| kumatp_config_to_json(config, no_text, e)),
            ("config", &|e| kumatp_config_to_json(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_config_to_yaml(config, no_text, e)),
            ("config", &|e| kumatp_config_to_yaml(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_config_for_kuma(config, null_mut(), e)),
            ("config", &|e| kumatp_config_for_kuma(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_config_notes(config, no_text, e)),
            ("config", &|e| kumatp_config_notes(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_config_keys(no_text, e)),
            ("out", &|e| kumatp_config_from_pod(text, len, null_mut(), null_mut(), e)),
            ("sources", &|e| kumatp_config_from_pod(null(), 1, &mut null_mut(), null_mut(), e)),
            ("out", &|e| kumatp_config_to_annotation(config, no_text, e)),
            ("config", &|e| kumatp_config_to_annotation(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_config_from_dataplane(dataplane, config, null_mut(), e)),
            ("dataplane", &|e| kumatp_config_from_dataplane(null(), config, &mut null_mut(), e)),
            ("out", &|e| kumatp_config_to_transparent_proxying(config, no_text, e)),
            ("config", &|e| kumatp_config_to_transparent_proxying(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_dataplane_fill(text, len, text, len, no_text, e)),
            ("template", &|e| kumatp_dataplane_fill(null(), 1, text, len, &mut null_mut(), e)),
            ("variables", &|e| kumatp_dataplane_fill(text, len, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_dataplane_parse(text, len, KUMATP_FORMAT_JSON, null_mut(), e)),
            ("text", &|e| kumatp_dataplane_parse(null(), 1, KUMATP_FORMAT_JSON, &mut null_mut(), e)),
            ("out", &|e| kumatp_dataplane_to_json(dataplane, no_text, e)),
            ("dataplane", &|e| kumatp_dataplane_to_json(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_dataplane_compare(dataplane, config, no_text, e)),
            ("dataplane", &|e| kumatp_dataplane_compare(null(), config, &mut null_mut(), e)),
            ("config", &|e| kumatp_dataplane_compare(dataplane, null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_dataplane_reach(dataplane, text, len, no_text, e)),
            ("dataplane", &|e| kumatp_dataplane_reach(null(), text, len, &mut null_mut(), e)),
            ("query", &|e| kumatp_dataplane_reach(dataplane, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_facts_probe(config, KUMATP_ENGINE_NETLINK, -1, null_mut(), e)),
            ("config", &|e| kumatp_facts_probe(null(), KUMATP_ENGINE_NETLINK, -1, &mut null_mut(), e)),
            ("out", &|e| kumatp_facts_capable_host(0, null_mut(), e)),
            ("out", &|e| kumatp_facts_parse(text, len, null_mut(), e)),
            ("out", &|e| kumatp_facts_to_json(facts, no_text, e)),
            ("facts", &|e| kumatp_facts_to_json(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_resolvers_parse(text, len, text, len, no_text, e)),
            ("out", &|e| kumatp_plan_build(config, facts, null_mut(), e)),
            ("config", &|e| kumatp_plan_build(null(), facts, &mut null_mut(), e)),
            ("facts", &|e| kumatp_plan_build(config, null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_render(plan, KUMATP_SYNTAX_NFT, KUMATP_FAMILY_ALL, 0, no_text, e)),
            ("plan", &|e| kumatp_plan_render(null(), KUMATP_SYNTAX_NFT, KUMATP_FAMILY_ALL, 0, &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_notes(plan, no_text, e)),
            ("plan", &|e| kumatp_plan_notes(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_simulate(plan, KUMATP_ENGINE_NETLINK, text, len, no_text, e)),
            ("plan", &|e| kumatp_plan_simulate(null(), KUMATP_ENGINE_NETLINK, text, len, &mut null_mut(), e)),
            ("packets", &|e| kumatp_plan_simulate(plan, KUMATP_ENGINE_NETLINK, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_explain(plan, KUMATP_ENGINE_NETLINK, text, len, no_text, e)),
            ("plan", &|e| kumatp_plan_explain(null(), KUMATP_ENGINE_NETLINK, text, len, &mut null_mut(), e)),
            ("packets", &|e| kumatp_plan_explain(plan, KUMATP_ENGINE_NETLINK, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_edges(plan, KUMATP_ENGINE_NETLINK, no_text, e)),
            ("plan", &|e| kumatp_plan_edges(null(), KUMATP_ENGINE_NETLINK, &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_diff(plan, plan, KUMATP_ENGINE_NETLINK, no_text, e)),
            ("before", &|e| kumatp_plan_diff(null(), plan, KUMATP_ENGINE_NETLINK, &mut null_mut(), e)),
            ("after", &|e| kumatp_plan_diff(plan, null(), KUMATP_ENGINE_NETLINK, &mut null_mut(), e)),
            ("out", &|e| kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, -1, 0, no_text, e)),
            ("plan", &|e| kumatp_plan_apply(null(), KUMATP_ENGINE_NETLINK, -1, 0, &mut null_mut(), e)),
            ("out", &|e| kumatp_uninstall(null(), KUMATP_ENGINE_NETLINK, -1, 0, no_text, e)),
            ("out", &|e| kumatp_nft_removal(no_text, e)),
            ("out", &|e| kumatp_resolv_conf_restore(text, len, no_text, e)),
            ("plan", &|e| kumatp_plan_check(null(), KUMATP_ENGINE_NETLINK, -1, 0, e)),
            ("out", &|e| kumatp_state_read(plan, -1, 0, null_mut(), e)),
            ("state", &|e| kumatp_state_to_json(null(), &mut null_mut(), e)),
            ("out", &|e| kumatp_installed_explain(-1, text, len, no_text, e)),
            ("packets", &|e| kumatp_installed_explain(-1, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_installed_diff(plan, -1, no_text, e)),
            ("plan", &|e| kumatp_installed_diff(null(), -1, &mut null_mut(), e)),
            ("out", &|e| kumatp_save_explain(text, len, text, len, no_text, e)),
            ("text", &|e| kumatp_save_explain(null(), 1, text, len, &mut null_mut(), e)),
            ("packets", &|e| kumatp_save_explain(text, len, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_save_diff(plan, text, len, no_text, e)),
            ("plan", &|e| kumatp_save_diff(null(), text, len, &mut null_mut(), e)),
            ("text", &|e| kumatp_save_diff(plan, null(), 1, &mut null_mut(), e)),
            ("out", &|e| kumatp_save_translate(text, len, KUMATP_SYNTAX_NFT, no_text, e)),
            ("out", &|e| kumatp_firewalld_merge(plan, text, 0, no_text, e)),
            ("plan", &|e| kumatp_firewalld_merge(null(), text, 0, &mut null_mut(), e)),
            ("out", &|e| kumatp_firewalld_remove(text, 0, no_text, e)),
            ("changed", &|e| kumatp_firewalld_store(plan, text, len, null_mut(), e)),
            ("plan", &|e| kumatp_firewalld_store(null(), text, len, &mut 7, e)),
            ("changed", &|e| kumatp_firewalld_unstore(text, len, null_mut(), e)),
            ("error", &|e| kumatp_error_to_json(null(), &mut null_mut(), e)),
        ];
        for (parameter, function) in calls {
            let mut err = null_mut();
            assert_eq!(function(&raw mut err), KUMATP_E_ARGUMENT);
            assert_eq!(CStr::from_ptr(kumatp_error_field(err)).to_str().unwrap(), *parameter);
            kumatp_error_free(err);
            // Whoever does not want to know why need not.
            assert_eq!(function(null_mut()), KUMATP_E_ARGUMENT);
        }
        kumatp_config_free(config);
        kumatp_dataplane_free(dataplane);
        kumatp_facts_free(facts);
        kumatp_plan_free(plan);
    }
}

#[test]
fn nothing_is_done_with_null_where_nothing_can_fail() {
    // SAFETY: NULL is allowed here.
    unsafe {
        assert_eq!(kumatp_error_status(null()), KUMATP_OK);
        assert_eq!(CStr::from_ptr(kumatp_error_message(null())), c"");
        assert!(kumatp_error_field(null()).is_null());
        assert_eq!(kumatp_error_errno(null()), 0);
        assert_eq!(CStr::from_ptr(kumatp_text_data(null())), c"");
        assert_eq!(kumatp_text_len(null()), 0);
        assert_eq!((kumatp_state_kind(null()), kumatp_state_engines(null())), (KUMATP_STATE_ABSENT, 0));
        kumatp_error_free(null_mut());
        kumatp_text_free(null_mut());
        kumatp_config_free(null_mut());
        kumatp_dataplane_free(null_mut());
        kumatp_facts_free(null_mut());
        kumatp_plan_free(null_mut());
        kumatp_state_free(null_mut());
        assert_eq!(CStr::from_ptr(kumatp_status_name(KUMATP_E_CONFIG)), c"KUMATP_E_CONFIG");
        assert_eq!(CStr::from_ptr(kumatp_status_name(12345)), c"unknown status");
    }
}

#[test]
fn numbers_and_flags_that_are_not_known_are_refused() {
    let plan = plan("");
    // SAFETY: handles and texts that outlive the calls.
    unsafe {
        let (text, len) = data("");
        let refused = |field: &str, given: Result<(), (kumatp_status, String, Option<String>)>| {
            let (status, message, at) = given.unwrap_err();
            assert_eq!((status, at.as_deref()), (KUMATP_E_ARGUMENT, Some(field)), "{message}");
        };
        let text_of = |given: Given<kumatp_text>| given.map(drop);
        refused("format", call(|out, err| kumatp_config_parse(text, len, 0, out, err)).map(drop));
        refused("format", text_of(call(|out, err| kumatp_config_check(text, len, 9, out, err))));
        refused("syntax", text_of(render(plan, 0, 0, 0)));
        refused("syntax", text_of(render(plan, 99, KUMATP_FAMILY_IPV4, 0)));
        refused("family", text_of(render(plan, KUMATP_SYNTAX_NFT, 5, 0)));
        refused("flags", text_of(render(plan, KUMATP_SYNTAX_NFT, 0, 2)));
        refused("syntax", text_of(call(|out, err| kumatp_save_translate(text, len, 1, out, err))));
        refused("sidecar_uid", call(|out, err| kumatp_facts_capable_host(u32::MAX, out, err)).map(drop));
        for engine in [0, 3, 8, KUMATP_ENGINE_ALL] {
            refused("engine", text_of(call(|out, err| kumatp_plan_apply(plan, engine, -1, 0, out, err))));
            refused("engine", text_of(call(|out, err| kumatp_plan_simulate(plan, engine, text, len, out, err))));
            refused("engine", text_of(call(|out, err| kumatp_plan_explain(plan, engine, text, len, out, err))));
            refused("engine", text_of(call(|out, err| kumatp_plan_edges(plan, engine, out, err))));
            refused("engine", text_of(call(|out, err| kumatp_plan_diff(plan, plan, engine, out, err))));
        }
        for engines in [0, 5, 8, KUMATP_ENGINE_ALL - 1] {
            refused("engines", text_of(call(|out, err| kumatp_uninstall(null(), engines, -1, 0, out, err))));
        }
        refused("flags", text_of(call(|out, err| kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, -1, 2, out, err))));
        refused("flags", text_of(call(|out, err| kumatp_uninstall(null(), KUMATP_ENGINE_NETLINK, -1, 2, out, err))));
        refused("flags", call(|out, err| kumatp_state_read(plan, -1, 1, out, err)).map(drop));
        #[cfg(all(feature = "host", target_os = "linux"))]
        for fd in [-2, i32::MIN, 1_000_000] {
            refused(
                "netns_fd",
                text_of(call(|out, err| kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, fd, 0, out, err))),
            );
        }
        kumatp_plan_free(plan);
    }
}

#[test]
fn a_plan_is_rendered_as_by_rust() {
    let text = "redirect: {inbound: {excludePorts: [22]}}";
    let config = crate::Config::parse(text, crate::config::Format::Yaml).unwrap();
    let rust = crate::policy::plan(&config, &crate::Facts::capable_host(crate::net::Uid::SIDECAR)).unwrap();
    let c = plan(text);
    let rendered = |syntax, family, flags| take(render(c, syntax, family, flags));
    use crate::render::{dot, firewalld, iptables, json, mermaid, nft};
    assert_eq!(rendered(KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_ALL, 0), iptables::plan(&rust));
    let short = iptables::Style::Short;
    assert_eq!(rendered(KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_IPV4, 0), iptables::ruleset(&rust.v4, short));
    let v6 = rust.v6.as_ref().unwrap();
    assert_eq!(rendered(KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_IPV6, 0), iptables::ruleset(v6, short));
    let long = rendered(KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_ALL, KUMATP_RENDER_LONG);
    assert!(long.contains("--append") && long.contains("### IPv6 ###"));
    assert!(long.contains(&iptables::ruleset(v6, iptables::Style::Long)));
    assert_eq!(rendered(KUMATP_SYNTAX_NFT, KUMATP_FAMILY_ALL, 0), nft::plan(&rust));
    assert_eq!(rendered(KUMATP_SYNTAX_NFT, KUMATP_FAMILY_IPV6, 0), nft::ruleset(v6));
    assert_eq!(rendered(KUMATP_SYNTAX_FIREWALLD, KUMATP_FAMILY_ALL, 0), firewalld::plan(&rust));
    assert_eq!(rendered(KUMATP_SYNTAX_JSON, KUMATP_FAMILY_ALL, 0), json::plan(&rust));
    assert_eq!(rendered(KUMATP_SYNTAX_MERMAID, KUMATP_FAMILY_ALL, 0), mermaid::plan(&rust));
    assert_eq!(rendered(KUMATP_SYNTAX_MERMAID, KUMATP_FAMILY_IPV4, 0), mermaid::ruleset(&rust.v4));
    assert_eq!(rendered(KUMATP_SYNTAX_DOT, KUMATP_FAMILY_ALL, 0), dot::plan(&rust));
    assert_eq!(rendered(KUMATP_SYNTAX_DOT, KUMATP_FAMILY_IPV6, 0), dot::ruleset(v6));
    let native: Value = serde_json::from_str(&rendered(KUMATP_SYNTAX_NATIVE, KUMATP_FAMILY_ALL, 0)).unwrap();
    assert_eq!(native, serde_json::to_value(crate::nftables::Native::of(&rust)).unwrap());
    for syntax in [KUMATP_SYNTAX_JSON, KUMATP_SYNTAX_EBPF] {
        let (status, ..) = render(c, syntax, KUMATP_FAMILY_IPV4, 0).unwrap_err();
        assert_eq!(status, KUMATP_E_UNSUPPORTED);
    }
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    assert_eq!(rendered(KUMATP_SYNTAX_EBPF, KUMATP_FAMILY_ALL, 0), crate::engine::ebpf::preview(&rust).unwrap());
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(c) };

    let v4_only = plan("ipFamilyMode: ipv4");
    let (status, message, field) = render(v4_only, KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_IPV6, 0).unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_ARGUMENT, Some("family")), "{message}");
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(v4_only) };
}

#[test]
fn an_invalid_document_names_every_problem() {
    let text = "redirect: {inbound: {port: 70000}, dns: {port: x}}\nipFamilyMode: six\n";
    let (status, message, field) = parse(text).unwrap_err();
    assert_eq!(status, KUMATP_E_CONFIG);
    assert_eq!(message.lines().count(), 3);
    assert!(message.contains("'70000'"), "{message}");
    assert!(field.is_some_and(|field| message.starts_with(&field)));

    let (bytes, len) = data(text);
    // SAFETY: a text that outlives the calls, and slots.
    unsafe {
        let report = json(call(|out, err| kumatp_config_check(bytes, len, KUMATP_FORMAT_YAML, out, err)));
        assert_eq!(report["valid"], false);
        assert_eq!(report["problems"].as_array().unwrap().len(), 3);
        let message = report["problems"][0]["message"].as_str().unwrap();
        assert!(message.starts_with(report["problems"][0]["path"].as_str().unwrap()));

        let mut err = null_mut();
        assert_eq!(kumatp_config_parse(bytes, len, KUMATP_FORMAT_YAML, &mut null_mut(), &raw mut err), KUMATP_E_CONFIG);
        let error = json(call(|out, inner| kumatp_error_to_json(err, out, inner)));
        kumatp_error_free(err);
        assert_eq!(error["name"], "KUMATP_E_CONFIG");
        assert_eq!((error["status"].as_i64(), error["errno"].as_i64()), (Some(2), Some(0)));
        assert_eq!(error["problems"].as_array().unwrap().len(), 3);
        let members: Vec<_> = error.as_object().unwrap().keys().collect();
        assert_eq!(members, ["errno", "field", "message", "name", "problems", "status"]);
    }
}

#[test]
fn unknown_keys_are_told() {
    let config = parse("redirect: {inbound: {prot: 15006}}").unwrap();
    // SAFETY: given out above.
    unsafe {
        let notes = json(call(|out, err| kumatp_config_notes(config, out, err)));
        assert_eq!(notes[0]["severity"], "warning");
        assert!(notes[0]["text"].as_str().unwrap().contains("prot"), "{notes}");
        kumatp_config_free(config);
    }
}

#[test]
fn layers_come_in_one_document() {
    let document = serde_json::json!({
        "documents": [
            {"name": "a.yaml", "format": "yaml", "text": "redirect: {inbound: {port: 1}, outbound: {port: 2}}"},
            {"name": "b.json", "format": "json", "text": "{\"redirect\": {\"outbound\": {\"port\": 3}}}"},
        ],
        "environment": {"KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT": "4", "HOME": "/"},
        "flags": [["--redirect-dns-port", "5"], ["--redirect-all-dns-traffic", "true"]],
    });
    let text = document.to_string();
    let (bytes, len) = data(&text);
    // SAFETY: a text that outlives the call, and what it gives out.
    unsafe {
        let config = call(|out, err| kumatp_config_from_layers(bytes, len, out, err)).unwrap();
        let config_json = json(call(|out, err| kumatp_config_to_json(config, out, err)));
        let redirect = &config_json["redirect"];
        assert_eq!(redirect["inbound"]["port"], 1);
        assert_eq!(redirect["outbound"]["port"], 4);
        assert_eq!((redirect["dns"]["port"].as_u64(), redirect["dns"]["captureAll"].as_bool()), (Some(5), Some(true)));
        let yaml = take(call(|out, err| kumatp_config_to_yaml(config, out, err)));
        kumatp_config_free(config);
        let again = parse(&yaml).unwrap();
        assert_eq!(json(call(|out, err| kumatp_config_to_json(again, out, err))), config_json);
        kumatp_config_free(again);

        for (wrong, status) in [
            ("[", KUMATP_E_ARGUMENT),
            ("{\"flag\": []}", KUMATP_E_ARGUMENT),
            ("{\"flags\": [[\"--x\", \"1\"]]}", KUMATP_E_CONFIG),
        ] {
            let (bytes, len) = data(wrong);
            let given = call(|out, err| kumatp_config_from_layers(bytes, len, out, err));
            assert_eq!(given.unwrap_err().0, status, "{wrong}");
        }
    }
}

#[test]
fn what_kuma_reads_is_told_and_written() {
    let text = r#"{"ipFamilyMode": "required", "redirect": {"inbound": {"port": "15106", "excludePorts": ["80-82"]}}}"#;
    let (bytes, len) = data(text);
    // SAFETY: a text that outlives the calls, and what they give out.
    unsafe {
        let report = json(call(|out, err| kumatp_config_check(bytes, len, KUMATP_FORMAT_JSON, out, err)));
        let told: Vec<_> = report["kuma"].as_array().unwrap().iter().collect();
        assert!(report["valid"] == true && told.len() == 3, "{report}");
        assert_eq!(told[1]["path"], "redirect.inbound.port");
        assert_eq!((told[1]["refused"].as_bool(), told[1]["value"].as_str()), (Some(true), Some("15106")));
        assert_eq!(told[1]["programs"], serde_json::json!(["kuma-dp", "kumactl"]));
        assert!(told[1]["message"].as_str().unwrap().contains(told[1]["reason"].as_str().unwrap()));

        let config = parse(text).unwrap();
        let other = call(|out, err| kumatp_config_for_kuma(config, out, err)).unwrap();
        let notes = json(call(|out, err| kumatp_config_notes(other, out, err)));
        assert_eq!((notes.as_array().unwrap().len(), notes[0]["about"].as_str()), (1, Some("ipFamilyMode")));
        let written = take(call(|out, err| kumatp_config_to_json(other, out, err)));
        kumatp_config_free(config);
        kumatp_config_free(other);
        let document: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(document["redirect"]["inbound"]["port"], 15106);
        assert_eq!(document["redirect"]["inbound"]["excludePorts"], serde_json::json!([80, 81, 82]));
        let (bytes, len) = data(&written);
        let report = json(call(|out, err| kumatp_config_check(bytes, len, KUMATP_FORMAT_JSON, out, err)));
        assert_eq!(report["kuma"], serde_json::json!([]));
    }
}

#[test]
fn keys_are_listed() {
    // SAFETY: slots of `call`.
    let keys = json(call(|out, err| unsafe { kumatp_config_keys(out, err) }));
    let key = keys.as_array().unwrap().iter().find(|key| key["path"] == "redirect.dns.port").unwrap();
    assert_eq!(key["flag"], "--redirect-dns-port");
    assert_eq!(key["environment"], "KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_PORT");
    assert_eq!(key["inDocuments"], true);
    assert_eq!(key["annotations"], serde_json::json!(["kuma.io/builtin-dns-port"]));
    assert_eq!(key["controlPlane"], serde_json::json!(["KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT"]));
}

#[test]
fn facts_are_a_document() {
    // SAFETY: handles that calls have given out, texts that outlive the calls.
    unsafe {
        let facts = call(|out, err| kumatp_facts_capable_host(1234, out, err)).unwrap();
        let text = take(call(|out, err| kumatp_facts_to_json(facts, out, err)));
        kumatp_facts_free(facts);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((value["sidecarUid"].as_str(), value["ipv6"]["state"].as_str()), (Some("1234"), Some("usable")));
        let (bytes, len) = data(&text);
        let again = call(|out, err| kumatp_facts_parse(bytes, len, out, err)).unwrap();
        assert_eq!(take(call(|out, err| kumatp_facts_to_json(again, out, err))), text);
        kumatp_facts_free(again);
        for wrong in ["{}", "{\"sidecarUid\": 1, \"ipv7\": 1}", "[[[["] {
            let (bytes, len) = data(wrong);
            let (status, message, _) = call(|out, err| kumatp_facts_parse(bytes, len, out, err)).unwrap_err();
            assert_eq!(status, KUMATP_E_FACTS);
            assert!(message.starts_with("facts: ") && message.contains("line 1"), "{message}");
        }
        let (path, path_len) = data("/r");
        let (bytes, len) = data("nameserver 10.0.0.53\nnameserver fe80::1%eth0\nnameserver dns.example\n");
        let resolvers = json(call(|out, err| kumatp_resolvers_parse(path, path_len, bytes, len, out, err)));
        assert_eq!(resolvers["servers"][0], "10.0.0.53");
        assert_eq!(resolvers["servers"][1], "fe80::1%eth0");
        assert_eq!(resolvers["skipped"][0], "dns.example");
    }
}

#[test]
fn facts_that_make_a_plan_impossible() {
    let config = parse("redirect: {dns: {enabled: true}}").unwrap();
    // SAFETY: handles that calls have given out.
    unsafe {
        let facts = call(|out, err| kumatp_facts_capable_host(5678, out, err)).unwrap();
        let (status, message, field) = call(|out, err| kumatp_plan_build(config, facts, out, err)).unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_FACTS, Some("resolvers")), "{message}");
        kumatp_facts_free(facts);
        kumatp_config_free(config);
    }
}

#[test]
fn a_plan_that_is_to_be_shown_is_not_applied() {
    let plan = plan("dryRun: true");
    // SAFETY: given out by `plan`.
    unsafe {
        let given = call(|out, err| kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, -1, 0, out, err));
        let (status, _, field) = given.unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("dryRun")));
        kumatp_plan_free(plan);
    }
}

#[test]
fn notes_of_a_plan() {
    let plan = plan("redirect: {dns: {captureAll: true}}");
    // SAFETY: given out by `plan`.
    unsafe {
        let notes = json(call(|out, err| kumatp_plan_notes(plan, out, err)));
        assert_eq!(notes[0]["about"], "redirect.dns.captureAll");
        kumatp_plan_free(plan);
    }
}

#[test]
fn text_of_others_is_translated() {
    let (bytes, len) = data("*nat\n-A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001\nCOMMIT\n");
    let translate = |syntax| {
        // SAFETY: a text that outlives the call.
        call(|out, err| unsafe { kumatp_save_translate(bytes, len, syntax, out, err) })
    };
    assert!(take(translate(KUMATP_SYNTAX_NFT)).contains("tcp dport 80"));
    assert_eq!(json(translate(KUMATP_SYNTAX_JSON))["ipv4"]["tables"][0]["name"], "nat");
    let direct = translate(KUMATP_SYNTAX_FIREWALLD);
    match cfg!(feature = "firewalld") {
        true => assert!(take(direct).contains("<direct>")),
        false => assert_eq!(direct.unwrap_err().0, KUMATP_E_UNSUPPORTED),
    }
    // SAFETY: slots of `call`.
    assert!(take(call(|out, err| unsafe { kumatp_nft_removal(out, err) })).contains("delete table ip kuma-mesh"));
}

#[test]
#[cfg(feature = "firewalld")]
fn documents_of_firewalld() {
    let plan = plan("");
    let directory = std::env::temp_dir().join(format!("kumatp-ffi-direct-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("direct.xml").display().to_string();
    // SAFETY: texts that outlive the calls, and handles that calls have given out.
    unsafe {
        let foreign = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<direct>\n  <chain ipv=\"ipv4\" table=\"nat\" chain=\"MINE\"/>\n</direct>\n";
        let (bytes, len) = data(foreign);
        let merged = take(call(|out, err| kumatp_firewalld_merge(plan, bytes, len, out, err)));
        assert!(merged.contains("MINE") && merged.contains("KUMA_MESH_INBOUND"));
        let (bytes, len) = data(&merged);
        assert_eq!(take(call(|out, err| kumatp_firewalld_remove(bytes, len, out, err))), foreign);
        let (bytes, len) = data(foreign);
        assert_eq!(take(call(|out, err| kumatp_firewalld_remove(bytes, len, out, err))), foreign);

        let (path_bytes, path_len) = data(&path);
        let mut changed = 7;
        for expected in [1, 0] {
            assert_eq!(kumatp_firewalld_store(plan, path_bytes, path_len, &raw mut changed, null_mut()), KUMATP_OK);
            assert_eq!(changed, expected);
        }
        for expected in [1, 0] {
            assert_eq!(kumatp_firewalld_unstore(path_bytes, path_len, &raw mut changed, null_mut()), KUMATP_OK);
            assert_eq!(changed, expected);
        }
        let (bytes, len) = data("a\0b");
        assert_eq!(kumatp_firewalld_unstore(bytes, len, &raw mut changed, null_mut()), KUMATP_E_ARGUMENT);
        kumatp_plan_free(plan);
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
#[cfg(not(all(feature = "host", target_os = "linux")))]
fn without_a_host_every_function_that_needs_one_says_so() {
    let (config, plan) = (parse("").unwrap(), plan(""));
    // SAFETY: handles that calls have given out, and slots.
    unsafe {
        let engine = KUMATP_ENGINE_NETLINK;
        for status in [
            kumatp_facts_probe(config, engine, -1, &mut null_mut(), null_mut()),
            kumatp_plan_check(plan, engine, -1, 0, null_mut()),
            kumatp_plan_apply(plan, engine, -1, 0, &mut null_mut(), null_mut()),
            kumatp_uninstall(null(), engine, -1, 0, &mut null_mut(), null_mut()),
            kumatp_state_read(plan, -1, 0, &mut null_mut(), null_mut()),
            kumatp_installed_explain(-1, c"icmp 10.1.2.3".as_ptr(), NUL_TERMINATED, &mut null_mut(), null_mut()),
            kumatp_installed_diff(plan, -1, &mut null_mut(), null_mut()),
            kumatp_resolv_conf_restore(null(), 0, &mut null_mut(), null_mut()),
        ] {
            assert_eq!(status, KUMATP_E_UNSUPPORTED);
        }
        kumatp_config_free(config);
        kumatp_plan_free(plan);
    }
}

#[test]
#[cfg(not(feature = "ebpf"))]
fn an_engine_that_is_not_built_in_says_so() {
    let plan = plan("{}");
    // SAFETY: handles that calls have given out, freed after their use.
    unsafe {
        let by = KUMATP_ENGINE_EBPF;
        for given in [
            render(plan, KUMATP_SYNTAX_EBPF, KUMATP_FAMILY_ALL, 0).map(drop),
            call(|out, err| kumatp_plan_apply(plan, by, -1, 0, out, err)).map(drop),
            call(|out, err| kumatp_uninstall(null(), by, -1, 0, out, err)).map(drop),
        ] {
            let (status, message, _) = given.unwrap_err();
            assert!(status == KUMATP_E_UNSUPPORTED && message.contains("feature"), "{message}");
        }
        kumatp_plan_free(plan);
    }
}
