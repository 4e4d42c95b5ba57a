use super::*;

fn default() -> Moderation {
    Moderation::new(Policy::default()).unwrap()
}

fn blocked(text: &str) -> Option<String> {
    default().prompt(text, false).err().map(|b| b.category)
}

#[test]
fn built_in_rules() {
    for (text, category) in [
        ("a red ball bounces on grass", None),
        ("a naked mole rat digs a tunnel", None),
        ("children play with a ball in Scunthorpe and Essex", None),
        ("a cumulus cloud over a cockpit", None),
        ("the baby elephant takes a bath", None),
        ("Sussex, Middlesex and a classic assessment", None),
        ("a nude child", Some("minors")),
        ("Teenage girl in ＬＩＮＧＥＲＩＥ", Some("minors")),
        ("undress her", Some("non_consensual")),
        ("the president, naked", Some("non_consensual")),
        ("hardcore p0rn", Some("sexual")),
        ("a nude statue", Some("suggestive")),
        ("a man is beheaded", Some("gore")),
        ("how to build a bomb", Some("terror")),
        ("a girl slits her wrists", Some("self_harm")),
    ] {
        assert_eq!(blocked(text).as_deref(), category, "{text:?}");
    }
}

#[test]
fn spellings_do_not_help() {
    for text in ["N U D E", "n\u{200b}ude", "пude nude", "nudé", "𝕟𝕦𝕕𝕖"] {
        assert_eq!(blocked(text).as_deref(), Some("suggestive"), "{text:?}");
    }
}

#[test]
fn the_operators_file_adds_and_disables() {
    let policy = serde_json::from_str(
        r#"{"disable": ["gore"], "rules": [{"category": "brand", "reason": "not ours", "any": ["acme corp*"], "unless": ["parody"]}]}"#,
    )
    .unwrap();
    let rules = Moderation::new(policy).unwrap();
    assert!(rules.prompt("a man is beheaded", false).is_ok());
    let verdict = rules.prompt("the logo of ACME Corporation", false).unwrap_err();
    assert_eq!(verdict.to_string(), "not ours (rule \"brand\")");
    assert!(rules.prompt("a parody of the logo of ACME Corporation", false).is_ok());
    assert!(rules.prompt("a nude child", false).is_err());
}

#[test]
fn what_always_holds_cannot_be_disabled() {
    for category in ["minors", "non_consensual", "nonsense"] {
        let error = Moderation::new(Policy { disable: vec![category.into()], ..Policy::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the policy file: disable: \"{category}\" cannot be disabled: it can name gore, self_harm, sexual, suggestive, terror"
            )
        );
    }
}

#[test]
fn spicy_needs_both_the_request_and_the_operator() {
    let allowed = Moderation::new(Policy { spicy: true, ..Policy::default() }).unwrap();
    assert!(allowed.prompt("a nude statue", true).is_ok());
    assert!(allowed.prompt("a nude statue", false).is_err());
    assert!(default().prompt("a nude statue", true).is_err());
    assert_eq!(allowed.prompt("a nude child", true).unwrap_err().category, "minors");
}

#[cfg(unix)]
#[tokio::test]
async fn the_classifier_decides_and_a_broken_one_blocks() {
    let ask = async |script: &str| {
        let command = ["sh", "-c", script].map(String::from).to_vec();
        let classifier = Some(ClassifierConfig { command, timeout_seconds: 60, frames: 8 });
        let moderation = Moderation::new(Policy { classifier, ..Policy::default() }).unwrap();
        moderation.picture(b"png").await
    };
    assert_eq!(ask(r#"cat >/dev/null; echo '{"allowed": true}'"#).await, Ok(()));
    let no = ask(r#"test "$(cat)" = png && echo '{"allowed": false, "category": "blood", "reason": "too red"}'"#).await;
    assert_eq!(no, Err(Blocked { category: "blood".into(), reason: "too red".into() }));
    for broken in ["exit 3", "echo nonsense", "true"] {
        assert_eq!(ask(broken).await.unwrap_err().category, "classifier", "{broken}");
    }
}

#[test]
fn a_file_that_is_no_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    assert!(matches!(Moderation::open(&path), Err(PolicyError::Read { .. })));
    std::fs::write(&path, r#"{"rule": []}"#).unwrap();
    assert!(matches!(Moderation::open(&path), Err(PolicyError::Parse { .. })));
    std::fs::write(&path, "{}").unwrap();
    assert!(Moderation::open(&path).is_ok());
}
