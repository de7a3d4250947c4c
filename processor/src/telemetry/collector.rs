//! Where a signal is pushed to, as OpenTelemetry's environment variables say, and one push: OTLP's protobuf over HTTP.
//! Headers and addresses may hold secrets and are never shown (I10). Refuses what it cannot do (gRPC, JSON) instead of doing
//! something else.

use super::variables::{Signal, Unfit, Variables, millis, pairs};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::{HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Where to push one signal, and how.
#[derive(Clone, PartialEq)]
pub struct Collector {
    pub(super) signal: Signal,
    endpoint: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    /// Authorities that are trusted instead of the system's.
    certificate: Option<PathBuf>,
    /// Attributes of the resource.
    pub(super) resource: Vec<(String, String)>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Collector { signal, timeout, .. } = self;
        f.debug_struct("Collector").field("signal", signal).field("timeout", timeout).finish_non_exhaustive()
    }
}

/// Why a push did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NotSent {
    pub text: String,
    /// The same again may succeed: the collector is away, or asks for it.
    pub again: bool,
}

impl Collector {
    /// What the environment asks for: `None` when nothing. `application` and `instance` name the resource where the
    /// environment does not.
    ///
    /// # Errors
    /// A variable that asks for what cannot be done.
    pub fn from_env(
        variables: Variables<'_>,
        signal: Signal,
        application: &str,
        instance: &str,
    ) -> Result<Option<Self>, Unfit> {
        if !variables.wants(signal) {
            return Ok(None);
        }
        let either = |name: &str| variables.either(signal, name);
        if either("PROTOCOL").is_some_and(|protocol| protocol != "http/protobuf") {
            return Err(Unfit { variable: "OTEL_EXPORTER_OTLP_PROTOCOL", what: "only http/protobuf is spoken" });
        }
        let endpoint = variables.own(signal, "ENDPOINT").unwrap_or_else(|| {
            let base = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_else(|| "http://localhost:4318".into());
            format!("{}/v1/{}", base.trim_end_matches('/'), signal.as_str())
        });
        let scheme = endpoint.parse::<ureq::http::Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(Unfit { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", what: "it must be a URL with http or https" });
        }
        let listed = "it must be a list of name=value, parted by commas, values percent-encoded";
        let headers = pairs(&either("HEADERS").unwrap_or_default()).and_then(|pairs| {
            let header = |(name, value): (String, String)| {
                let mut value = HeaderValue::from_str(&value).ok()?;
                value.set_sensitive(true);
                Some((name.parse().ok()?, value))
            };
            pairs.into_iter().map(header).collect()
        });
        let mut resource = vec![
            ("service.name".to_owned(), application.to_owned()),
            ("service.instance.id".to_owned(), instance.to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let attributes = pairs(&variables.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())
            .ok_or(Unfit { variable: "OTEL_RESOURCE_ATTRIBUTES", what: listed })?;
        let service = variables.get("OTEL_SERVICE_NAME").map(|name| ("service.name".into(), name));
        for (key, value) in attributes.into_iter().chain(service) {
            resource.retain(|(known, _)| *known != key);
            resource.push((key, value));
        }
        Ok(Some(Collector {
            signal,
            endpoint,
            headers: headers.ok_or(Unfit { variable: "OTEL_EXPORTER_OTLP_HEADERS", what: listed })?,
            timeout: millis(either("TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?,
            certificate: either("CERTIFICATE").map(PathBuf::from),
            resource,
        }))
    }

    /// # Errors
    /// When the certificates cannot be read.
    pub(super) fn agent(&self) -> Result<ureq::Agent, String> {
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
            // Which answers are worth another try is decided here.
            .http_status_as_error(false)
            .user_agent(concat!("pelton/", env!("CARGO_PKG_VERSION")));
        Ok(config.build().new_agent())
    }

    /// One push. Blocks, for as long as the timeout at most.
    pub(super) fn send(&self, agent: &ureq::Agent, body: &[u8]) -> Result<(), NotSent> {
        let mut request = agent.post(&self.endpoint).header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match request.send(body) {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => {
                let again = matches!(response.status().as_u16(), 429 | 502 | 503 | 504);
                Err(NotSent { text: format!("the collector answered {}", response.status()), again })
            }
            // It would show the address, which may hold a password.
            Err(ureq::Error::BadUri(_)) => Err(NotSent { text: "the endpoint is no URL".into(), again: false }),
            Err(error) => Err(NotSent { text: error.to_string(), again: true }),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(signal: Signal, variables: &[(&str, &str)]) -> Result<Option<Collector>, Unfit> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Collector::from_env(Variables(&variable), signal, "orders", "pod-0")
    }

    fn endpoint(signal: Signal, variables: &[(&str, &str)]) -> Option<String> {
        of(signal, variables).unwrap().map(|collector| collector.endpoint)
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn each_signal_has_an_address_of_its_own() {
        assert_eq!(endpoint(Signal::Metrics, &[]), None);
        assert_eq!(endpoint(Signal::Metrics, &[BASE]).unwrap(), "http://collector:4318/v1/metrics");
        assert_eq!(endpoint(Signal::Traces, &[BASE]).unwrap(), "http://collector:4318/v1/traces");
        let logs = ("OTEL_LOGS_EXPORTER", "otlp");
        assert_eq!(endpoint(Signal::Logs, &[BASE, logs]).unwrap(), "http://collector:4318/v1/logs");
        assert_eq!(endpoint(Signal::Logs, &[logs]).unwrap(), "http://localhost:4318/v1/logs");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://a/b");
        assert_eq!(endpoint(Signal::Traces, &[BASE, own]).unwrap(), "https://a/b");
        assert_eq!(endpoint(Signal::Metrics, &[BASE, own]).unwrap(), "http://collector:4318/v1/metrics");
    }

    #[test]
    fn headers_times_and_the_resource_are_the_environment_s() {
        let collector = of(
            Signal::Metrics,
            &[
                BASE,
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b%3D, x-scope=1"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "10"),
                ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2500"),
                ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=b"),
                ("OTEL_SERVICE_NAME", "shop"),
            ],
        )
        .unwrap()
        .unwrap();
        let headers: Vec<_> = collector.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "a b="), ("x-scope", "1")]);
        assert_eq!(collector.timeout, Duration::from_millis(2500));
        let of = |key: &str| {
            collector.resource.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(of("service.name"), ["shop"]);
        assert_eq!(of("service.instance.id"), ["b"]);
        assert_eq!(of("service.version"), [env!("CARGO_PKG_VERSION")]);
        assert_eq!(of("deployment.environment.name"), ["test"]);
        assert!(collector.headers.iter().all(|(_, value)| value.is_sensitive()));
        assert!(!format!("{collector:?}").contains("a b"), "headers are secrets");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_the_variable_s_name() {
        let refused = |variable: (&'static str, &str)| of(Signal::Metrics, &[BASE, variable]).unwrap_err().to_string();
        assert!(refused(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")).contains("only http/protobuf"));
        assert!(refused(("OTEL_EXPORTER_OTLP_HEADERS", "secret")).starts_with("OTEL_EXPORTER_OTLP_HEADERS"));
        assert!(refused(("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")).contains("milliseconds"));
        assert!(refused(("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4318")).contains("URL"));
        assert!(!refused(("OTEL_EXPORTER_OTLP_HEADERS", "secret")).contains("secret"));
    }
}
