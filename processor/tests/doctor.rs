//! `pelton doctor` where there is no Kafka: it ends soon all the same, and says what it could see.

mod admin_support;
mod config_support;

use admin_support::{err, out, pelton};
use config_support::{Setup, minimal};
use serde_json::Value;

#[test]
fn a_wrong_configuration_is_a_finding_for_each_error() {
    let setup = Setup::new().file("a.yaml", &minimal("workers: many\ndrain_limit: soon\n"));
    let file = setup.path("a.yaml").display().to_string();
    let output = pelton(&["doctor", "-c", &file], &[]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", err(&output));
    assert!(text.contains(&format!("fail  config: `workers` cannot be `many` ({file}:9:10) [config.value]")), "{text}");
    assert!(text.ends_with("3 failures, 0 warnings\n"), "also the module is missing: {text}");
}

#[test]
fn without_a_broker_everything_else_is_still_looked_at() {
    let setup = Setup::new()
        .file("a.yaml", &minimal("admin: off\ncache_dir: off\n").replace("localhost:9092", "127.0.0.1:1"))
        .beside("redact.wasm", b"no module");
    let file = setup.path("a.yaml").display().to_string();
    let output = pelton(&["doctor", "--output", "json", "-c", &file], &[("PELTON_INSTANCE", "a")]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let json: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let of = |point: &str| {
        let all = json["findings"].as_array().expect("findings").iter();
        let found: Vec<_> = all.filter(|finding| finding["point"] == point).collect();
        assert_eq!(found.len(), 1, "{point}: {json:#}");
        (found[0]["status"].as_str().expect("a text"), found[0]["code"].as_str())
    };
    assert_eq!(json["ok"], false);
    assert_eq!(of("config"), ("ok", None));
    assert_eq!(of("transform"), ("fail", Some("module.load")));
    assert_eq!(of("server"), ("fail", Some("kafka.unreachable")));
    assert_eq!(of("topic"), ("skip", None));
    assert_eq!(of("admin"), ("ok", None));
    assert_eq!(of("cache"), ("ok", None));
    let _ = (of("open_files"), of("memory"));
}

#[test]
fn every_code_is_in_the_guide() {
    let root = config_support::repository();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a file of the repository");
    let guide = read("docs/guide/operating.md");
    let sources = ["tools/doctor/cluster.rs", "tools/doctor/host.rs", "tools/doctor/installation.rs", "cli/doctor.rs"];
    let mut codes = 0;
    for source in sources {
        // Every second piece between quotation marks is a text.
        for text in read(&format!("processor/src/{source}")).split('"').skip(1).step_by(2) {
            let code = ["kafka.", "host.", "cache.", "admin.", "input."].iter().any(|group| text.starts_with(group))
                && text.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_'));
            if code {
                assert!(guide.contains(&format!("`{text}`")), "{source}: {text} is not in the guide");
                codes += 1;
            }
        }
    }
    assert!(codes > 20, "only {codes} were found");
}
