//! Every query of the dashboard and every alert, evaluated where they will be.

use crate::prometheus::Prometheus;
use anyhow::{Context, Result, bail};
use pelton_integration::process::Pelton;
use pelton_integration::root;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// Until rates over [`WINDOW`] have something to stand on.
const LIMIT: Duration = Duration::from_secs(90);
/// What Grafana puts in for `$__rate_interval` when it is scraped once a second.
const WINDOW: &str = "10s";

/// Asks until everything has data, or says what has none.
pub fn all(prometheus: &Prometheus, pelton: &Pelton) -> Result<()> {
    // A reload, so that what counts reloads has seen one.
    pelton.signal(libc::SIGHUP);
    let queries = dashboard()?;
    if queries.len() < 30 {
        bail!("the dashboard has {} queries only", queries.len());
    }
    let deadline = Instant::now() + LIMIT;
    let silent = loop {
        let mut silent = Vec::new();
        for (title, query) in &queries {
            let values = prometheus.query(query).with_context(|| format!("{title}: {query}"))?;
            if values.iter().all(|value| value == "NaN") {
                silent.push(format!("{title}: {query}"));
            }
        }
        if silent.is_empty() || Instant::now() > deadline {
            break silent;
        }
        std::thread::park_timeout(Duration::from_millis(500));
    };
    if !silent.is_empty() {
        bail!("{} of {} queries have no data after {LIMIT:?}:\n{}", silent.len(), queries.len(), silent.join("\n"));
    }
    println!("{} queries of the dashboard have data", queries.len());
    alerts(prometheus, deadline)
}

/// The expressions of all panels, with Grafana's variables as Grafana would fill them.
fn dashboard() -> Result<Vec<(String, String)>> {
    fn collect(panels: &Value, into: &mut Vec<(String, String)>) {
        for panel in panels.as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or_default();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap_or_default();
                let query = query.replace("$__rate_interval", WINDOW);
                let query = ["$namespace", "$application", "$instance"].iter().fold(query, |q, v| q.replace(v, ".*"));
                into.push((title.to_owned(), query));
            }
            collect(&panel["panels"], into);
        }
    }
    let text = fs::read_to_string(root().join("helm/pelton/files/dashboard.json"))?;
    let mut queries = Vec::new();
    collect(&serde_json::from_str::<Value>(&text)?["panels"], &mut queries);
    Ok(queries)
}

/// Prometheus has evaluated each rule without an error, and what it goes by is there. That each fires when it should is
/// tested by `./dev chart`.
fn alerts(prometheus: &Prometheus, deadline: Instant) -> Result<()> {
    let rules = loop {
        let groups = prometheus.ask("rules", &[("type", "alert")])?;
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<Value> =
            groups.iter().flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default()).collect();
        let waits = rules.iter().any(|rule| rule["health"] == "unknown");
        if !rules.is_empty() && !waits || Instant::now() > deadline {
            break rules;
        }
        std::thread::park_timeout(Duration::from_millis(500));
    };
    let mut wrong = Vec::new();
    for rule in &rules {
        let (name, query) = (rule["name"].as_str().unwrap_or("?"), rule["query"].as_str().unwrap_or_default());
        if rule["health"] != "ok" {
            wrong.push(format!("{name}: {} {}", rule["health"], rule["lastError"]));
        }
        for selector in selectors(query) {
            // A scrape may have failed: asked again while there is time.
            while prometheus.query(&selector)?.is_empty() {
                if Instant::now() > deadline {
                    wrong.push(format!("{name}: nothing has {selector}"));
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(500));
            }
        }
        if rule["state"] == "firing" && name != "PeltonDeadLetters" {
            eprintln!("{name} fires");
        }
    }
    if rules.len() < 10 || !wrong.is_empty() {
        bail!("{} alerts, of which wrong:\n{}", rules.len(), wrong.join("\n"));
    }
    println!("{} alerts are evaluated, and what they go by is there", rules.len());
    Ok(())
}

/// The metrics of an expression, each with its matchers.
fn selectors(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let end = rest[start..].find(|c| !is_name(c)).map_or(rest.len(), |len| start + len);
        let name = &rest[start..end];
        rest = &rest[end..];
        if name.starts_with("pelton_") || name == "up" {
            let matchers = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            found.push(matchers.map_or_else(|| name.to_owned(), |(inner, _)| format!("{name}{{{inner}}}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_taken_out_of_expressions() {
        let query = "sum by (up_to) (rate(pelton_a_total{x=\"y\"}[10m])) / pelton_b > 0.05 and up{job=\"pelton\"} == 0";
        assert_eq!(selectors(query), ["pelton_a_total{x=\"y\"}", "pelton_b", "up{job=\"pelton\"}"]);
    }

    #[test]
    fn the_dashboard_is_read_without_variables() {
        let queries = dashboard().unwrap();
        assert!(queries.len() >= 30 && queries.iter().all(|(_, query)| !query.contains('$')), "{queries:?}");
    }
}
