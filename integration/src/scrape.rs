//! The operator's side of what Pelton tells about itself: a scraper that reads Prometheus' text strictly, and a collector that
//! takes what is pushed to it by OTLP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A port of this machine that nobody listens on.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Status and body of a GET. `None`: nobody answers.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    talk(port, &format!("GET {path}"), "")
}

/// The same of an order, with a token.
pub fn post(port: u16, path: &str, token: Option<&str>) -> Option<(u16, String)> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    talk(port, &format!("POST {path}"), &token.unwrap_or_default())
}

fn talk(port: u16, what: &str, headers: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "{what} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// By `name{labels}`, as written.
    pub samples: BTreeMap<String, f64>,
    pub text: String,
}

impl Scrape {
    /// `None`: nobody answers.
    pub fn of(port: u16) -> Option<Self> {
        get(port, "/metrics").filter(|(status, _)| *status == 200).map(|(_, text)| Self::read(&text))
    }

    /// # Panics
    /// When the text breaks a rule of the format: a sample without a type before it, a series twice, a histogram whose
    /// buckets do not grow or do not end in its count.
    pub fn read(text: &str) -> Self {
        let mut scrape = Scrape { text: text.to_owned(), ..Scrape::default() };
        let (mut name, mut kind) = (String::new(), String::new());
        let mut names = Vec::new();
        let mut below = 0.0;
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# TYPE ") {
                let (of, is) = about.split_once(' ').expect("a name and a type");
                assert!(!names.contains(&of.to_owned()), "{of} twice");
                assert!(text.contains(&format!("# HELP {of} ")), "{of} has no help");
                names.push(of.to_owned());
                (name, kind) = (of.to_owned(), is.to_owned());
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let own = series.split('{').next().unwrap_or_default();
            if kind == "histogram" {
                let part = own.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} is not of {name}"));
                assert!(["_bucket", "_sum", "_count"].contains(&part), "{line}");
                match part {
                    "_bucket" => {
                        assert!(value >= below, "{line}: less than in the bucket before");
                        below = if series.contains("+Inf") { 0.0 } else { value };
                    }
                    "_count" => {
                        let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
                        let comma = if labels.is_empty() { "" } else { "," };
                        let all = format!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}}");
                        assert_eq!(scrape.samples.get(&all), Some(&value), "{series}");
                    }
                    _ => {}
                }
            } else {
                assert_eq!(own, name, "{line} comes without its type");
            }
            assert!(scrape.samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
        scrape
    }

    /// The value of a series, written as in the text.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// The sum of all series of this name.
    pub fn sum(&self, name: &str) -> f64 {
        let of = |series: &&String| series.split('{').next() == Some(name);
        self.samples.keys().filter(of).map(|series| self.samples[series]).sum()
    }
}

/// What a collector was sent.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Request line and headers, as they came.
    pub head: String,
    pub body: Vec<u8>,
}

/// Listens for pushes on a port, and says 200 to all.
///
/// # Panics
/// When it cannot listen.
pub fn collector() -> (u16, Receiver<Pushed>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (push, pushed) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let push = push.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(one) = request(&mut reader) {
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    if push.send(one).is_err() || reader.get_mut().write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, pushed)
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Pushed> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Pushed { head, body })
}
