//! What is on this machine: what the configuration refers to, the modules, the cache of compiled code. Everything that
//! a start would check is checked by the start's own code.

use super::Finding;
use crate::config::{CacheDir, Code, Config, ConfigError, Loaded};
use crate::control::prepare::{self, Fits, Topicality};

/// `brokers`: whether there is somebody to ask for topics. Also how many partitions the input topics have together, where
/// that is known.
pub(super) fn examine(loaded: &Loaded, brokers: bool) -> (Vec<Finding>, Option<u64>) {
    let topics = if brokers { Topicality::LookedUp } else { Topicality::Assumed };
    let (fits, errors) = match prepare::check(loaded, topics) {
        Ok(fits) => (Some(fits), Vec::new()),
        Err(errors) => (None, errors),
    };
    let mut findings: Vec<Finding> = errors.iter().map(finding).collect();
    if !findings.iter().any(|finding| finding.point == "config") {
        findings.insert(0, Finding::ok("config", right(loaded)));
    }
    findings.extend(transforms(&loaded.config, fits.as_ref(), &errors));
    findings.extend(self::topics(fits.as_ref(), brokers, &errors));
    findings.push(cache(&loaded.config));
    (findings, fits.filter(|_| brokers).map(|fits| partitions(&loaded.config, &fits)))
}

fn partitions(config: &Config, fits: &Fits) -> u64 {
    let read =
        |topic: &str| config.transforms.values().any(|of| of.input.topics.iter().any(|own| own.as_str() == topic));
    fits.topics.iter().filter(|(topic, _)| read(topic)).map(|(_, count)| u64::from(count.unsigned_abs())).sum()
}

fn right(loaded: &Loaded) -> String {
    let transforms = loaded.config.transforms.len();
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let from = if files.is_empty() { "the environment".to_owned() } else { files.join(", ") };
    let counted = if transforms == 1 { "1 transform".to_owned() } else { format!("{transforms} transforms") };
    format!("application `{}` with {counted}, from {from}", loaded.config.application)
}

fn finding(error: &ConfigError) -> Finding {
    let found = Finding::of_config(
        match error.code {
            Code::Module | Code::Unfit | Code::Sandbox => "transform",
            code if of_topics(code) => "topic",
            _ => "config",
        },
        error,
    );
    match transform_of(&error.path) {
        Some(name) if found.point == "transform" => found.about(name),
        _ => found,
    }
}

/// What asking the brokers for topics comes to.
fn of_topics(code: Code) -> bool {
    matches!(code, Code::Topic | Code::Denied | Code::Unreachable | Code::Authentication | Code::Tls)
}

/// `transforms.redact.module` is about `redact`: its name has no dots.
fn transform_of(path: &str) -> Option<&str> {
    path.strip_prefix("transforms.")?.split('.').next().filter(|name| !name.is_empty())
}

/// Those of which nothing bad is known.
fn transforms(config: &Config, fits: Option<&Fits>, errors: &[ConfigError]) -> Vec<Finding> {
    if let Some(fits) = fits {
        let found = |(name, digest): &(std::sync::Arc<str>, std::sync::Arc<str>)| {
            let transform = config.transforms.iter().find(|(known, _)| known.as_str() == &**name);
            let pinned =
                if transform.is_some_and(|(_, of)| of.sha256.is_some()) { ", as it is pinned to be" } else { "" };
            let message =
                format!("its module compiles and takes its settings; imports are granted; sha256 {digest}{pinned}");
            Finding::ok("transform", message).about(&**name)
        };
        return fits.modules.iter().map(found).collect();
    }
    // Nobody looked at any of them.
    if errors.iter().any(|error| error.code == Code::Sandbox) {
        return Vec::new();
    }
    let bad = |name: &str| errors.iter().any(|error| transform_of(&error.path) == Some(name));
    let names = config.transforms.keys().map(|name| name.as_str()).filter(|name| !bad(name));
    names.map(|name| Finding::ok("transform", "its module compiles and fits it").about(name)).collect()
}

fn topics(fits: Option<&Fits>, brokers: bool, errors: &[ConfigError]) -> Vec<Finding> {
    if !brokers {
        return vec![Finding::skip("topic", "no broker answers who could be asked for topics")];
    }
    if let Some(fits) = fits {
        let found = |(name, partitions): &(std::sync::Arc<str>, i32)| {
            let counted = if *partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
            Finding::ok("topic", format!("exists, with {counted}")).about(&**name)
        };
        return fits.topics.iter().map(found).collect();
    }
    match errors.iter().any(|error| of_topics(error.code)) {
        true => Vec::new(),
        false => vec![Finding::ok("topic", "all exist")],
    }
}

/// Less than a few modules take.
const SCARCE: u64 = 64 << 20;

fn cache(config: &Config) -> Finding {
    const POINT: &str = "cache";
    const CODE: &str = "cache.unusable";
    let Some(dir) = config.cache_dir.resolve() else {
        return match config.cache_dir {
            CacheDir::Off => Finding::ok(POINT, "off: modules are compiled at each start"),
            _ => Finding::warn(
                POINT,
                CODE,
                "there is no directory for it: modules are compiled at each start",
                "set `cache_dir` to a directory that only this user can write, or to `off`",
            ),
        };
    };
    let shown = dir.display();
    if let Err(why) = pelton_sandbox::check_cache(&dir) {
        let message = format!("{shown} is not used, modules are compiled at each start: {why}");
        return Finding::warn(
            POINT,
            CODE,
            message,
            "give it to this user alone: `chown`, `chmod go-w`, a volume of its own",
        );
    }
    match rustix::fs::statvfs(&dir).map(|of| of.f_bavail.saturating_mul(of.f_frsize)) {
        Ok(free) if free < SCARCE => Finding::warn(
            POINT,
            "cache.full",
            format!("{shown} has only {} MiB left", free >> 20),
            "make room, or lower `sandbox.cache_size`",
        ),
        _ => Finding::ok(POINT, format!("{shown} is ours alone")),
    }
}
