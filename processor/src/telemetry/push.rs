//! Pushes metrics to an OTLP collector over HTTP, from a thread of its own, where OpenTelemetry's environment variables ask
//! for it. Promises that a collector which is slow, away or wrong costs the records nothing: a push that fails is told once,
//! and the next one says everything that it would have said. Headers and addresses may hold secrets and are never shown
//! (I10). Refuses what it cannot do (gRPC, JSON) instead of doing something else.

use super::collect::{Running, collect};
use super::otlp::{self, Span};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::{HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// How long the end of the process waits for the last push.
const LAST_MAX: Duration = Duration::from_secs(3);

/// Where to push, and how.
#[derive(Clone, PartialEq)]
pub struct Push {
    endpoint: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    interval: Duration,
    /// Authorities that are trusted instead of the system's.
    certificate: Option<PathBuf>,
    /// Attributes of the resource.
    resource: Vec<(String, String)>,
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Push { timeout, interval, .. } = self;
        f.debug_struct("Push").field("timeout", timeout).field("interval", interval).finish_non_exhaustive()
    }
}

/// A variable that cannot be followed. Its value is not told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{variable}: {what}")]
pub struct Unfit {
    variable: &'static str,
    what: &'static str,
}

impl Push {
    /// What the environment asks for: `None` when nothing. `application` and `instance` name the resource where the
    /// environment does not.
    ///
    /// # Errors
    /// A variable that asks for what cannot be done.
    pub fn from_env(
        variable: impl Fn(&str) -> Option<String>,
        application: &str,
        instance: &str,
    ) -> Result<Option<Self>, Unfit> {
        // An empty variable is one that is not set, says the specification.
        let read = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        // The signal's own variable wins over the one for all signals.
        let either = |name: &str| {
            read(&format!("OTEL_EXPORTER_OTLP_METRICS_{name}")).or_else(|| read(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let exporter = read("OTEL_METRICS_EXPORTER");
        let wanted = match exporter.as_deref() {
            Some(names) => names.split(',').any(|name| name.trim() == "otlp"),
            None => either("ENDPOINT").is_some(),
        };
        if !wanted || read("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        if either("PROTOCOL").is_some_and(|protocol| protocol != "http/protobuf") {
            return Err(Unfit { variable: "OTEL_EXPORTER_OTLP_PROTOCOL", what: "only http/protobuf is spoken" });
        }
        let endpoint = match (read("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"), read("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            (Some(own), _) => own,
            (None, base) => {
                let base = base.unwrap_or_else(|| "http://localhost:4318".into());
                format!("{}/v1/metrics", base.trim_end_matches('/'))
            }
        };
        let scheme = endpoint.parse::<ureq::http::Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(Unfit { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", what: "it must be a URL with http or https" });
        }
        let millis = |value: Option<String>, variable, default: u64| match value.map(|value| value.trim().parse()) {
            None => Ok(Duration::from_millis(default)),
            Some(Ok(millis)) if millis > 0 => Ok(Duration::from_millis(millis)),
            Some(_) => Err(Unfit { variable, what: "it must be a number of milliseconds" }),
        };
        let headers = pairs(&either("HEADERS").unwrap_or_default()).and_then(|pairs| {
            let header = |(name, value): (String, String)| {
                let mut value = HeaderValue::from_str(&value).ok()?;
                value.set_sensitive(true);
                Some((name.parse().ok()?, value))
            };
            pairs.into_iter().map(header).collect()
        });
        let attributes = pairs(&read("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let listed = "it must be a list of name=value, parted by commas, values percent-encoded";
        let mut resource = vec![
            ("service.name".to_owned(), application.to_owned()),
            ("service.instance.id".to_owned(), instance.to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let attributes = attributes.ok_or(Unfit { variable: "OTEL_RESOURCE_ATTRIBUTES", what: listed })?;
        for (key, value) in
            attributes.into_iter().chain(read("OTEL_SERVICE_NAME").map(|name| ("service.name".into(), name)))
        {
            resource.retain(|(known, _)| *known != key);
            resource.push((key, value));
        }
        Ok(Some(Push {
            endpoint,
            headers: headers.ok_or(Unfit { variable: "OTEL_EXPORTER_OTLP_HEADERS", what: listed })?,
            timeout: millis(either("TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?,
            interval: millis(read("OTEL_METRIC_EXPORT_INTERVAL"), "OTEL_METRIC_EXPORT_INTERVAL", 60_000)?,
            certificate: either("CERTIFICATE").map(PathBuf::from),
            resource,
        }))
    }

    fn agent(&self) -> Result<ureq::Agent, String> {
        let roots = match &self.certificate {
            None => RootCerts::PlatformVerifier,
            Some(path) => RootCerts::new_with_certs(&certificates(path)?),
        };
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(self.timeout))
            // A collector that sends us elsewhere is not one.
            .max_redirects(0)
            .user_agent(concat!("pelton/", env!("CARGO_PKG_VERSION")));
        Ok(config.build().new_agent())
    }

    fn send(&self, agent: &ureq::Agent, body: &[u8]) -> Result<(), String> {
        let mut request = agent.post(&self.endpoint).header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match request.send(body) {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("the collector answered {}", response.status())),
            // It would show the address, which may hold a password.
            Err(ureq::Error::BadUri(_)) => Err("the endpoint is no URL".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(format!("no certificate is in {}", path.display())) } else { Ok(certificates) }
}

/// `a=b,c=d%20e`. `None`: it is none of that.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=')?;
        (!key.trim().is_empty()).then_some((key.trim().to_owned(), percent_decoded(value.trim())?))
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The thread that pushes. It ends with a last push.
#[derive(Debug)]
pub struct Pusher {
    stop: Sender<()>,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl Pusher {
    /// # Errors
    /// When there is no thread to be had, or the certificates cannot be read.
    pub fn start(push: Push, running: Arc<Running>) -> Result<Self, String> {
        let agent = push.agent()?;
        let (stop, stopped) = channel();
        let (alive, ended) = channel::<()>();
        let start = unix_nanos();
        let work = move || {
            let _alive = alive;
            let mut failing = false;
            loop {
                let last = match stopped.recv_timeout(push.interval) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
                };
                let now = unix_nanos();
                let families = collect(Some(&running), (now / 1_000_000) as i64);
                let body = otlp::encode(&families, &push.resource, Span { start, now });
                let sent = push.send(&agent, &body);
                match &sent {
                    Ok(()) if failing => tracing::info!("metrics are pushed again"),
                    Ok(()) => {}
                    Err(error) if failing => tracing::debug!(error, "metrics cannot be pushed"),
                    Err(error) => tracing::warn!(
                        error,
                        code = "telemetry.push",
                        "metrics cannot be pushed; tried again at each interval, told again when it works"
                    ),
                }
                failing = sent.is_err();
                if last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("otlp".into()).spawn(work).map_err(|error| error.to_string())?;
        Ok(Pusher { stop, ended })
    }

    /// Pushes once more, and waits for that, but not for long.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.ended.recv_timeout(LAST_MAX);
    }
}

fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(variables: &[(&str, &str)]) -> Result<Option<Push>, Unfit> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Push::from_env(variable, "orders", "pod-0")
    }

    fn endpoint(variables: &[(&str, &str)]) -> Option<String> {
        push(variables).unwrap().map(|push| push.endpoint)
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn nothing_is_pushed_unless_the_environment_asks_for_it() {
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        assert_eq!(endpoint(&[BASE]).unwrap(), "http://collector:4318/v1/metrics");
        assert_eq!(endpoint(&[BASE, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://a/b")]).unwrap(), "https://a/b");
        assert_eq!(endpoint(&[("OTEL_METRICS_EXPORTER", "otlp")]).unwrap(), "http://localhost:4318/v1/metrics");
        assert_eq!(endpoint(&[BASE, ("OTEL_METRICS_EXPORTER", "none")]), None);
        assert_eq!(endpoint(&[BASE, ("OTEL_SDK_DISABLED", "TRUE")]), None);
    }

    #[test]
    fn headers_times_and_the_resource_are_the_environment_s() {
        let push = push(&[
            BASE,
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b%3D, x-scope=1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=b"),
            ("OTEL_SERVICE_NAME", "shop"),
        ])
        .unwrap()
        .unwrap();
        let headers: Vec<_> = push.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "a b="), ("x-scope", "1")]);
        assert_eq!((push.timeout, push.interval), (Duration::from_millis(2500), Duration::from_secs(1)));
        let of =
            |key: &str| push.resource.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        assert_eq!(of("service.name"), ["shop"]);
        assert_eq!(of("service.instance.id"), ["b"]);
        assert_eq!(of("service.version"), [env!("CARGO_PKG_VERSION")]);
        assert_eq!(of("deployment.environment.name"), ["test"]);
        assert!(push.headers.iter().all(|(_, value)| value.is_sensitive()));
        assert!(!format!("{push:?}").contains("a b"), "headers are secrets");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_the_variable_s_name() {
        let refused = |variable: (&'static str, &str)| push(&[BASE, variable]).unwrap_err().to_string();
        assert!(refused(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")).contains("only http/protobuf"));
        assert!(refused(("OTEL_EXPORTER_OTLP_HEADERS", "secret")).starts_with("OTEL_EXPORTER_OTLP_HEADERS"));
        assert!(refused(("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")).contains("milliseconds"));
        assert!(refused(("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4318")).contains("URL"));
        assert!(!refused(("OTEL_EXPORTER_OTLP_HEADERS", "secret")).contains("secret"));
    }
}
