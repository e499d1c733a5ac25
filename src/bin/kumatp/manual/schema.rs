//! The JSON Schema of a configuration, for editors. It takes the forms that people write; the program takes a few more.

use serde_json::{Map, Value, json};

use super::keys::{self, Form};

/// The document.
pub(super) fn write() -> String {
    let mut root = object("Configuration of the Kuma transparent proxy, as kumatp reads it.");
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "kumatp.yaml".into();
    for (key, form, text) in keys::all() {
        let mut value = value(form);
        value["description"] = text.replace('`', "").into();
        if form == Form::Unneeded {
            value["deprecated"] = true.into();
        }
        let mut parent = &mut root;
        let names: Vec<&str> = key.path().split('.').collect();
        let (last, groups) = names.split_last().unwrap();
        for name in groups {
            let properties = parent["properties"].as_object_mut().unwrap();
            parent = properties.entry(*name).or_insert_with(|| object(""));
        }
        parent["properties"][*last] = value;
    }
    serde_json::to_string_pretty(&root).unwrap() + "\n"
}

fn object(text: &str) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), "object".into());
    if !text.is_empty() {
        object.insert("description".into(), text.into());
    }
    object.insert("additionalProperties".into(), false.into());
    object.insert("properties".into(), json!({}));
    object.into()
}

const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
const ADDRESS: &str = "[0-9A-Fa-f:.]+(/[0-9]{1,3})?";

fn value(form: Form) -> Value {
    let port = |least: u16| json!({"type": "integer", "minimum": least, "maximum": 65535});
    let range = format!("{PORT}(-{PORT})?");
    let ids = |name: &str| {
        let pattern =
            format!("^((((tcp|udp)(,(tcp|udp))*|\\*)?:)?({range}(,{range})*|\\*)?:)?[0-9]{{1,10}}(-[0-9]{{1,10}})?$");
        json!({"type": "array", "items": {
            "type": ["string", "integer"], "pattern": pattern, "minimum": 0, "maximum": 4_294_967_294_u32,
            "description": format!("[protocols:][ports:]{name}, such as tcp:22,8000-8100:1000-1999"),
        }})
    };
    match form {
        Form::Addresses => {
            let one = format!("^{ADDRESS}$");
            let several = format!("^{ADDRESS}(, *{ADDRESS})*$");
            json!({"anyOf": [
                {"type": "array", "items": {"type": "string", "pattern": one}},
                {"type": "string", "pattern": several},
            ]})
        }
        Form::Duration => {
            json!({"type": ["string", "integer"], "minimum": 0, "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"})
        }
        Form::Empty => json!({"type": "array", "maxItems": 0}),
        Form::Groups => ids("gids"),
        Form::Level => json!({"type": "integer", "minimum": 0, "maximum": 7}),
        Form::Mode => json!({"enum": ["dualstack", "ipv4", "required"]}),
        Form::Networks => json!({"type": "array", "items": {
            "type": "string", "pattern": format!("^[^:/\\s]{{1,15}}:{ADDRESS}$"),
            "description": "interface:CIDR, such as docker0:172.17.0.0/16",
        }}),
        Form::Number => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Form::Path => json!({"type": "string"}),
        Form::Port => port(0),
        Form::Ports => json!({"anyOf": [
            {"type": "array", "items": {"anyOf": [port(1), {"type": "string", "pattern": format!("^{range}$")}]}},
            {"type": "string", "pattern": format!("^{range}(, *{range})*$")},
        ]}),
        Form::Switch => json!({"type": "boolean"}),
        Form::Unneeded => json!({}),
        Form::User => json!({"type": ["string", "integer"], "minimum": 0}),
        Form::Users => ids("uids"),
    }
}
