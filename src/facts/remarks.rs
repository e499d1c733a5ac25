//! Notes as the JSON of facts has them: `{"about": …, "text": …, "warning": true}`.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Note, Severity};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Remark<'a> {
    about: Cow<'a, str>,
    text: Cow<'a, str>,
    #[serde(default)]
    warning: bool,
}

pub(super) fn serialize<S: Serializer>(notes: &[Note], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(notes.iter().map(|Note { severity, about, text }| Remark {
        about: about.into(),
        text: text.into(),
        warning: *severity == Severity::Warning,
    }))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Note>, D::Error> {
    let remarks = Vec::<Remark<'_>>::deserialize(deserializer)?;
    Ok(remarks
        .into_iter()
        .map(|Remark { about, text, warning }| match warning {
            true => Note::warning(about, text),
            false => Note::info(about, text),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use crate::Facts;
    use crate::model::Note;
    use crate::net::Uid;

    #[test]
    fn notes_of_facts_keep_their_form() {
        let mut facts = Facts::capable_host(Uid::SIDECAR);
        facts.remarks = vec![Note::warning("docker", "a \"quoted\" word"), Note::info("ipv6", "as usual")];
        let json = serde_json::to_string(&facts).unwrap();
        assert!(json.ends_with(
            r#""remarks":[{"about":"docker","text":"a \"quoted\" word","warning":true},{"about":"ipv6","text":"as usual","warning":false}]}"#
        ));
        assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
        assert!(serde_json::from_str::<Facts>(&json.replace("\"warning\":true", "\"severity\":\"info\"")).is_err());
        assert_eq!(
            serde_json::from_str::<Facts>(&json.replace(",\"warning\":false", "")).unwrap(),
            facts,
            "what is no warning need not say so"
        );
    }
}
