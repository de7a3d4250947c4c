//! No secret in anything that is printed: errors, `Debug`, `config show` (I10). And no text breaks the loader (I11).

mod config_support;

use config_support::{Setup, minimal};
use proptest::prelude::*;
use serde_json::to_string;

const SECRET: &str = "hunterXYZ27";

/// All that can be printed about a configuration, whether it is right or not.
fn everything_printed(setup: &Setup) -> String {
    let mut all = format!("{:?}", setup.sources());
    match setup.load() {
        Ok(loaded) => {
            all += &format!("{loaded:?}{}{}", loaded.to_yaml(true), loaded.to_json(true));
            all += &to_string(&loaded.config).expect("serializes");
        }
        Err(errors) => all += &format!("{errors}{errors:?}{:#}", errors.to_json()),
    }
    all
}

/// A configuration with secrets in all the places there are.
fn with_secrets() -> String {
    minimal(&format!("    settings: {{ hmac_key: {SECRET}, token: '{SECRET}' }}\nadmin: {{ token: {SECRET} }}\n"))
        .replace(
            "9092\n",
            &format!(
                "9092
  properties:
    sasl.username: pelton
    sasl.password: \"{SECRET}\"
    ssl.key.pem: |
      -----BEGIN-----
      {SECRET}
      -----END-----
  producer: {{ properties: {{ sasl.oauthbearer.client.secret: {SECRET}, linger.ms: 7 }} }}
"
            ),
        )
}

#[test]
fn secrets_are_hidden_and_harmless_values_are_not() {
    let setup = Setup::new().file("a.yaml", &with_secrets());
    let loaded = setup.load().unwrap_or_else(|errors| panic!("{errors}"));
    let shown = loaded.to_yaml(false);
    assert!(shown.contains("sasl.password: \"***\"") && shown.contains("hmac_key: \"***\""), "{shown}");
    assert!(shown.contains("sasl.username: pelton") && shown.contains("linger.ms: \"7\""), "{shown}");
    assert!(!everything_printed(&setup).contains(SECRET));
    assert_eq!(loaded.config.kafka.producer_properties().expect("inline")["sasl.password"], SECRET);
}

#[test]
fn the_admin_s_token_may_be_elsewhere() {
    for token in ["{ env: PELTON_TEST_TOKEN }", "{ file: token }"] {
        let setup = Setup::new().file("a.yaml", &minimal(&format!("admin: {{ token: {token} }}\n")));
        let loaded = setup.load().unwrap_or_else(|errors| panic!("{errors}"));
        assert!(loaded.to_yaml(false).contains("token:"), "{token}");
    }
}

#[test]
fn secrets_stay_hidden_on_lines_with_errors() {
    for (from, to) in [
        ("linger.ms", "lingr.ms"),
        ("sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.secrett"),
        ("sasl.password", "sasl.pasword"),
        ("  properties:\n", "  propertis:\n"),
        ("token", "token: 1, token"),
        ("hmac_key: ", "hmac_key: { x: 1 }, old_secret: "),
        ("\"hunterXYZ27\"", "[hunterXYZ27]"),
        ("\"hunterXYZ27\"", "{env: hunterXYZ27 }"),
    ] {
        let text = with_secrets().replacen(from, to, 1);
        let setup = Setup::new().file("a.yaml", &text);
        // The name of a variable is not a secret; that somebody wrote the secret there cannot be known.
        if !to.contains("env") {
            let all = everything_printed(&setup);
            assert!(!all.contains(SECRET), "{to}: {all}");
        }
    }
}

#[test]
fn secrets_stay_hidden_wherever_a_file_breaks_off() {
    let toml = format!(
        "application = 'orders'\n[kafka.properties]\n'sasl.password' = \"{SECRET}\"\n'linger.ms' = 5\n\
         'ssl.key.pem' = '''\nBEGIN\n{SECRET}\nEND\n'''\n"
    );
    for (name, whole) in [("a.yaml", with_secrets()), ("a.toml", toml)] {
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            for tail in ["", "\n]", ": [", "\t}"] {
                let text = format!("{}{tail}", &whole[..end]);
                let all = everything_printed(&Setup::new().file(name, &text));
                assert!(!all.contains(&SECRET[..6]), "{text}\n=> {all}");
            }
        }
    }
}

#[test]
fn secrets_from_the_environment_and_arguments_are_hidden() {
    for name in ["SASL_PASSWORD", "SASL_PASWORD", "ENABLE_IDEMPOTENCE"] {
        let setup = Setup::new()
            .file("a.yaml", &minimal(""))
            .env(&format!("PELTON__KAFKA__PROPERTIES__{name}"), SECRET)
            .set(&format!("kafka.producer.properties.{}={SECRET}", name.to_lowercase().replace('_', ".")))
            .set(&format!("kafka.sasl_password={SECRET}"));
        let all = everything_printed(&setup);
        assert!(!all.contains(SECRET), "{all}");
    }
    let odd = Setup::new().file("a.yaml", &minimal("")).env("PELTON__KAFKA__PROPERTIES__SASL_PASSWORD", "{x: [");
    let config = odd.load().unwrap_or_else(|errors| panic!("{errors}")).config;
    assert_eq!(config.kafka.properties["sasl.password"].reveal().expect("inline"), "{x: [");
}

#[test]
fn control_characters_in_a_file_do_not_reach_the_terminal() {
    let text = minimal("workers: \"\\e[2Jmany\u{9b}2J\" # \u{9b}31m\n\"bad\\a\\e[2Jkey\": 1\n");
    let errors = Setup::new().file("a.yaml", &text).load().expect_err("wrong");
    let shown = errors.to_string();
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
}

/// Bits of configuration and of syntax, so that texts get past the first character.
fn soup() -> impl Strategy<Value = String> {
    const BITS: [&str; 44] = [
        "application",
        "kafka",
        "transforms",
        "redact",
        "bootstrap_servers",
        "input",
        "topics",
        "settings",
        "workers",
        "admin",
        "x",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        " ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "<<",
        "'",
        "\"",
        "|",
        ">-",
        "\t",
        "é",
        "\u{feff}",
        "null",
        "~",
        "!!str ",
        "!t ",
        "#",
        "---",
        "...",
        "=",
        "5ms",
        "0x1f",
        "\r\n",
    ];
    prop_oneof![
        proptest::collection::vec(proptest::sample::select(&BITS[..]), 0..40).prop_map(|bits| bits.concat()),
        proptest::collection::vec(proptest::sample::select(&BITS[..]), 0..6).prop_map(|bits| minimal(&bits.concat())),
        "\\PC{0,60}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn no_text_breaks_the_loader(
        name in "a\\.(yaml|toml|json)",
        text in soup(),
        variable in "[A-Z_]{0,20}",
        value in soup(),
        argument in soup(),
    ) {
        let value = value.replace('\0', "");
        let setup = Setup::new()
            .file(&name, &text)
            .env(&format!("PELTON__{variable}"), &value)
            .env("PELTON__TRANSFORMS__REDACT__SETTINGS", &value)
            .env("PELTON__TRANSFORMS__REDACT__OUTPUT__ALSO", &value)
            .set(&argument)
            .set(&format!("{variable}.x={value}"))
            .outside();
        let all = everything_printed(&setup);
        prop_assert!(!all.is_empty());
    }
}
