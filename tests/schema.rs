//! The documents of tests/fixtures/schema.json: which of them the program takes. docs/build asks the JSON Schema the same, so that
//! the two agree.

use kumatp::Config;
use kumatp::config::Format;
use serde_json::Value;

#[test]
fn the_program_judges_documents_as_the_list_says() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("fixtures/schema.json")).unwrap();
    assert!(cases.len() > 40);
    for case in &cases {
        let judged = Config::parse(&case["document"].to_string(), Format::Json).map(drop);
        assert_eq!(judged.is_ok(), case["program"].as_bool().unwrap(), "{}: {judged:?}", case["document"]);
        // What an editor shows as right is right, but for what depends on another key.
        assert!(case["schema"] == false || case["program"] == true || case["why"].is_string(), "{}", case["document"]);
    }
}

/// Each key of documents is where the schema says.
#[test]
fn the_schema_has_every_key() {
    let schema: Value = serde_json::from_str(include_str!("../docs/pages/reference/kumatp.schema.json")).unwrap();
    for key in kumatp::config::Key::all().filter(|key| key.in_documents()) {
        let pointer = format!("/properties/{}", key.path().replace('.', "/properties/"));
        let found = schema.pointer(&pointer).unwrap_or_else(|| panic!("no {pointer}"));
        assert!(found["description"].as_str().is_some_and(|text| text.len() > 10), "{pointer}");
    }
}
