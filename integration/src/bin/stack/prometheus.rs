//! A Prometheus of the machine's own, with the alerts of the chart, that scrapes one Pelton.

use anyhow::{Context, Result, bail};
use pelton_integration::scrape::free_port;
use pelton_integration::{cache, root, spawn_bound, within};
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Killed when dropped; it keeps nothing.
pub struct Prometheus {
    process: Child,
    pub address: String,
    home: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes once a second, under the labels that the chart's monitors give.
    pub fn start(pelton: u16) -> Result<Self> {
        let home = tempfile::tempdir_in(cache())?;
        let alerts = root().join("helm/pelton/files/alerts.yaml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\nscrape_configs:\n\
             \x20 - job_name: pelton\n    static_configs:\n      - targets: [\"127.0.0.1:{pelton}\"]\n        \
             labels: {{ namespace: stack, application: stack }}\n",
            alerts.display()
        );
        let (file, port) = (home.path().join("prometheus.yml"), free_port());
        fs::write(&file, config)?;
        let log = fs::File::create(home.path().join("log"))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = spawn_bound(command).context("no prometheus: on Debian or Ubuntu, apt-get install prometheus")?;
        let mut this = Prometheus { process, address: format!("http://127.0.0.1:{port}"), home };
        let answer = within(Duration::from_secs(60), || {
            let ended = this.process.try_wait().ok().flatten();
            ended.map(Err).or_else(|| this.ask("status/buildinfo", &[]).ok().map(Ok))
        });
        match answer {
            Some(Ok(_)) => Ok(this),
            Some(Err(status)) => {
                let log = fs::read_to_string(this.home.path().join("log")).unwrap_or_default();
                bail!("prometheus ended with {status}:\n{log}")
            }
            None => bail!("prometheus does not answer at {}", this.address),
        }
    }

    /// `data` of an answer of its API.
    pub fn ask(&self, what: &str, query: &[(&str, &str)]) -> Result<Value> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let request = agent.get(format!("{}/api/v1/{what}", self.address)).query_pairs(query.iter().copied());
        let mut answer: Value = serde_json::from_str(&request.call()?.body_mut().read_to_string()?)?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => bail!("{}", answer["error"].as_str().unwrap_or("no answer that is understood")),
        }
    }

    /// The series that an expression evaluates to now: values, as text.
    pub fn query(&self, expression: &str) -> Result<Vec<String>> {
        let data = self.ask("query", &[("query", expression)])?;
        let values = |series: &Value| Some(series["value"][1].as_str()?.to_owned());
        match data["resultType"].as_str() {
            Some("vector") => Ok(data["result"].as_array().into_iter().flatten().filter_map(values).collect()),
            _ => Ok(data["result"][1].as_str().map(str::to_owned).into_iter().collect()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
