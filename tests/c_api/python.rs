//! The examples for Python.

use std::process::Command;

use kumatp::config::{Config, Format};
use kumatp::net::Uid;
use kumatp::{Facts, policy, render};

use crate::library::{Library, root, succeed, tool};

#[test]
fn the_example_prints_the_rules() {
    let Some(python) = tool("python3", "--version") else { return };
    let library = Library::new("python");
    let config = root().join("examples/c/transparent-proxy.yaml");
    let example = |config: &std::path::Path| {
        let mut command = Command::new(python);
        command.arg(root().join("examples/python/plan.py")).arg(config).env("KUMATP_LIBRARY", library.shared());
        command
    };
    let text = std::fs::read_to_string(&config).unwrap();
    let plan = policy::plan(&Config::parse(&text, Format::Yaml).unwrap(), &Facts::capable_host(Uid::SIDECAR)).unwrap();
    assert_eq!(succeed(&mut example(&config)), render::iptables::plan(&plan));

    let wrong = library.dir.join("wrong.yaml");
    std::fs::write(&wrong, "redirect: {inbound: {port: 70000}}\n").unwrap();
    let output = example(&wrong).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("redirect.inbound.port: '70000'"));
}

#[test]
fn the_unit_tests_of_the_examples() {
    let Some(python) = tool("python3", "--version") else { return };
    let library = Library::new("python-tests");
    let source = root().join("examples/python/test_rules.py");
    let run = |source: &std::path::Path| {
        let mut command = Command::new(python);
        command.arg("-B").arg(source).env("KUMATP_LIBRARY", library.shared()).output().unwrap()
    };
    let output = run(&source);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Ran 2 tests"), "{said}");

    let wrong = library.dir.join("test_wrong.py");
    std::fs::write(&wrong, std::fs::read_to_string(&source).unwrap().replace("15001", "15002")).unwrap();
    let output = run(&wrong);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("is redirected to port 15001"), "{said}");
}
