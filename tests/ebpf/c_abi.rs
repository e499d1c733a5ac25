//! The engine by the C ABI: checked, applied, looked at and removed.

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use kumatp::ffi::*;
use serde_json::Value;

use crate::common::world::{BPFFS, cgroup};
use crate::netns::isolated;
use crate::place::Place;

/// What a call gives, if it succeeds; otherwise its status and message.
fn call<T>(make: impl FnOnce(*mut *mut T, *mut *mut kumatp_error) -> kumatp_status) -> Result<*mut T, (i32, String)> {
    let (mut out, mut err) = (null_mut(), null_mut());
    match make(&raw mut out, &raw mut err) {
        KUMATP_OK => Ok(out),
        // SAFETY: the call has failed, so it has given an error out, which is freed here.
        status => unsafe {
            let message = CStr::from_ptr(kumatp_error_message(err)).to_str().unwrap().to_owned();
            kumatp_error_free(err);
            Err((status, message))
        },
    }
}

fn json(text: *mut kumatp_text) -> Value {
    // SAFETY: a text that a call has given out, freed after it is read.
    unsafe {
        let value = serde_json::from_slice(CStr::from_ptr(kumatp_text_data(text)).to_bytes()).unwrap();
        kumatp_text_free(text);
        value
    }
}

fn config(text: &str) -> *mut kumatp_config {
    let data = text.as_ptr().cast::<c_char>();
    // SAFETY: the text outlives the call.
    call(|out, err| unsafe { kumatp_config_parse(data, text.len(), KUMATP_FORMAT_JSON, out, err) }).unwrap()
}

fn plan(config: *const kumatp_config) -> *mut kumatp_plan {
    // SAFETY: handles that calls have given out, freed after their use.
    unsafe {
        let facts = call(|out, err| kumatp_facts_capable_host(5678, out, err)).unwrap();
        let plan = call(|out, err| kumatp_plan_build(config, facts, out, err)).unwrap();
        kumatp_facts_free(facts);
        plan
    }
}

#[test]
fn the_c_abi_has_the_engine() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let places = format!(r#""ebpf": {{"bpffsPath": "{BPFFS}", "cgroupPath": "{}"}}"#, cgroup());
        let config_of_places = config(&format!("{{{places}}}"));
        let plan_of_places = plan(config_of_places);
        let by = KUMATP_ENGINE_EBPF;
        // SAFETY: handles that calls have given out, freed after their use.
        unsafe {
            assert_eq!(kumatp_plan_check(plan_of_places, by, -1, 0, null_mut()), KUMATP_OK);
            let report = json(call(|out, err| kumatp_plan_apply(plan_of_places, by, -1, 0, out, err)).unwrap());
            assert_eq!((&report["changed"], &report["reports"][0]["engine"]), (&true.into(), &"ebpf".into()));
            let again = json(call(|out, err| kumatp_plan_apply(plan_of_places, by, -1, 0, out, err)).unwrap());
            assert_eq!(again["changed"], false, "{again}");

            let state = call(|out, err| kumatp_state_read(plan_of_places, -1, 0, out, err)).unwrap();
            assert_eq!((kumatp_state_kind(state), kumatp_state_engines(state)), (KUMATP_STATE_CURRENT, by));
            let found = json(call(|out, err| kumatp_state_to_json(state, out, err)).unwrap());
            kumatp_state_free(state);
            let programs = &found["installations"][0]["programs"];
            assert_eq!(
                (programs["generation"].as_u64(), programs["attached"][0]["hook"].as_str()),
                (Some(1), Some("sockops"))
            );
            assert_eq!(programs["counters"]["outbound_redirected"], 0, "{programs}");

            // What the engine cannot do is refused, and changes nothing.
            let other = config(&format!(r#"{{"log": {{"enabled": true}}, {places}}}"#));
            let refused = plan(other);
            let (status, message) = call(|out, err| kumatp_plan_apply(refused, by, -1, 0, out, err)).unwrap_err();
            assert!(status == KUMATP_E_UNSUPPORTED && message.starts_with("log.enabled"), "{message}");
            kumatp_plan_free(refused);
            kumatp_config_free(other);

            // So is a place that is none.
            for (key, others) in [("cgroupPath", ""), ("bpffsPath", &*format!(r#", "cgroupPath": "{}""#, cgroup()))] {
                let other = config(&format!(r#"{{"ebpf": {{"{key}": "/nowhere"{others}}}}}"#));
                let refused = plan(other);
                let (status, message) = call(|out, err| kumatp_plan_apply(refused, by, -1, 0, out, err)).unwrap_err();
                assert!(
                    status == KUMATP_E_CONFIG && message.starts_with(&format!("ebpf.{key}: '/nowhere'")),
                    "{message}"
                );
                if key == "cgroupPath" {
                    assert_eq!(kumatp_plan_check(refused, by, -1, 0, null_mut()), KUMATP_E_CONFIG);
                    let (status, message) = call(|out, err| kumatp_facts_probe(other, by, -1, out, err)).unwrap_err();
                    assert_eq!(status, KUMATP_E_CONFIG, "{message}");
                }
                kumatp_plan_free(refused);
                kumatp_config_free(other);
            }

            // Where the programs are pinned is noted down, so it need not be said.
            let removed = json(call(|out, err| kumatp_uninstall(null(), by, -1, 0, out, err)).unwrap());
            assert!(removed.to_string().contains("removed the eBPF programs"), "{removed}");
            let all = KUMATP_ENGINE_ALL;
            let nothing = json(call(|out, err| kumatp_uninstall(config_of_places, all, -1, 0, out, err)).unwrap());
            assert!(!nothing.to_string().contains("eBPF programs"), "{nothing}");
            let state = call(|out, err| kumatp_state_read(plan_of_places, -1, 0, out, err)).unwrap();
            assert_eq!((kumatp_state_kind(state), kumatp_state_engines(state)), (KUMATP_STATE_ABSENT, 0));
            kumatp_state_free(state);
            kumatp_plan_free(plan_of_places);
            kumatp_config_free(config_of_places);
        }
    });
}
