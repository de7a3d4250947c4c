//! What `top` draws: a head with the whole process, its transforms, and as many of its partitions as fit.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use serde_json::Value;

use super::feed::Now;
use crate::cli::remote::text as plain;

/// How far down the list of partitions one is.
#[derive(Debug, Default)]
pub(super) struct Scroll {
    first: usize,
}

const PAGE: usize = 10;

impl Scroll {
    pub(super) fn go(&mut self, key: KeyCode) {
        self.first = match key {
            KeyCode::Down | KeyCode::Char('j') => self.first.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.first.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.first.saturating_add(PAGE),
            KeyCode::PageUp => self.first.saturating_sub(PAGE),
            KeyCode::Home => 0,
            KeyCode::End => usize::MAX,
            _ => self.first,
        };
    }

    pub(super) fn within(&mut self, partitions: usize) {
        self.first = self.first.min(partitions.saturating_sub(1));
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, place: &str, now: &Now, row: &Scroll) {
    let head = head(place, now);
    let transforms = list(&now.status, "transforms");
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    // Partitions have what is left, and at least a few lines.
    let wanted = rows(transforms.len() + 1).min(frame.area().height / 2);
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(rows(head.len() + 1)),
        Constraint::Length(wanted.saturating_add(1)),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head), top);
    frame.render_widget(table(&TRANSFORM, transforms.iter().map(|of| transform(of, &now.status)).collect()), middle);
    let partitions = now.partitions.iter().skip(row.first).map(partition).collect();
    frame.render_widget(table(&PARTITION, partitions), bottom);
}

// === The process ===

fn head(place: &str, now: &Now) -> Vec<Line<'static>> {
    let status = &now.status;
    let state = match (&now.lost, status["started"] == true, status["ready"] == true) {
        (Some(why), ..) => Span::raw(format!("not connected: {}", crate::cli::answer::harmless(why))).red(),
        (None, _, true) => Span::raw("ready").green(),
        (None, true, false) => Span::raw("not ready").yellow(),
        (None, false, false) => Span::raw("starting").yellow(),
    };
    let name = plain(&status["application"]);
    let about = format!(" {} at {place}, {} workers  ", plain(&status["version"]), plain(&status["workers"]));
    let mut head =
        vec![Line::from(vec![Span::raw(name).bold(), Span::raw(about), state, Span::raw("  (q ends)").dim()])];
    head.extend(list(status, "reasons").iter().map(|reason| Line::from(format!("  {}", plain(reason))).yellow()));
    let (rates, counts) = (&status["rates"], &status["counts"]);
    head.push(Line::from(format!(
        "in {}/s  out {}/s  failures {}/s  latency p99 {}  transactions {} committed, {} rolled back",
        number(&rates["records_in"]),
        number(&rates["records_out"]),
        number(&rates["failures"]),
        rates["latency_p99_seconds"].as_f64().map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s")),
        plain(&counts["committed"]),
        plain(&counts["rolled_back"]),
    )));
    head
}

// === Tables ===

/// A column: its heading, its width, and whether it is a number.
type Column = (&'static str, u16, bool);

const TRANSFORM: [Column; 13] = [
    ("TRANSFORM", 14, false),
    ("GEN", 4, true),
    ("STATE", 13, false),
    ("IN/S", 9, true),
    ("OUT/S", 9, true),
    ("KEPT", 10, true),
    ("DROPPED", 9, true),
    ("EMITTED", 10, true),
    ("FAILED", 8, true),
    ("DEAD", 8, true),
    ("LAG", 9, true),
    ("LAG S", 7, true),
    ("CALL P99", 9, true),
];

fn transform(of: &Value, status: &Value) -> Vec<String> {
    let lags: BTreeMap<&str, &Value> =
        list(status, "inputs").iter().filter_map(|input| Some((input["topic"].as_str()?, input))).collect();
    let inputs: Vec<&&Value> = list(of, "inputs").iter().filter_map(|topic| lags.get(topic.as_str()?)).collect();
    let records: Option<u64> = inputs.iter().map(|input| input["lag_records"].as_u64()).sum();
    // The worst of them.
    let seconds = inputs.iter().filter_map(|input| input["lag_seconds"].as_f64()).reduce(f64::max);
    let state = match (of["paused_by"].as_str(), of["trial"]["kind"].as_str()) {
        (Some(by), _) => format!("paused ({by})"),
        (None, Some(kind)) => format!("{kind} {}", plain(&of["trial"]["generation"])),
        (None, None) => "runs".to_owned(),
    };
    vec![
        plain(&of["name"]),
        plain(&of["generation"]),
        state,
        number(&of["rate"]),
        number(&of["rate_out"]),
        plain(&of["kept"]),
        plain(&of["dropped"]),
        plain(&of["emitted"]),
        plain(&of["failures"]),
        plain(&of["dead_letters"]),
        records.map_or_else(|| "-".to_owned(), |records| records.to_string()),
        seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
        of["call_p99_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
    ]
}

const PARTITION: [Column; 8] = [
    ("TOPIC", 30, false),
    ("PARTITION", 9, true),
    ("WORKER", 6, true),
    ("LANE", 4, true),
    ("POSITION", 12, true),
    ("COMMITTED", 12, true),
    ("LAG", 9, true),
    ("LAG S", 7, true),
];

fn partition(of: &Value) -> Vec<String> {
    let mut row = ["topic", "partition", "worker", "lane", "position", "committed", "lag_records"]
        .map(|key| plain(&of[key]))
        .to_vec();
    row.push(number(&of["lag_seconds"]));
    row
}

fn table(columns: &[Column], rows: Vec<Vec<String>>) -> Table<'static> {
    let row = |cells: Vec<String>| {
        let cells = cells.into_iter().zip(columns).map(|(cell, (_, _, is_number))| {
            let line = Line::from(cell);
            Cell::from(if *is_number { line.right_aligned() } else { line })
        });
        Row::new(cells.collect::<Vec<_>>())
    };
    let headings = row(columns.iter().map(|(heading, ..)| (*heading).to_owned()).collect());
    // Names have what the numbers leave.
    let widths = columns.iter().enumerate().map(|(index, (_, width, _))| match index {
        0 => Constraint::Min(*width),
        _ => Constraint::Length(*width),
    });
    let widths: Vec<_> = widths.collect();
    Table::new(rows.into_iter().map(row).collect::<Vec<_>>(), widths)
        .header(headings.style(Style::new().bold().reversed()))
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

fn list<'v>(of: &'v Value, key: &str) -> &'v [Value] {
    of[key].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn now(partitions: usize) -> Now {
        let status = json!({
            "application": "orders", "version": "0.1.0", "started": true, "ready": false, "workers": 2,
            "reasons": ["worker 0 is not in its group"],
            "counts": { "committed": 12, "rolled_back": 1 },
            "rates": { "records_in": 1234.5, "records_out": 1000.0, "failures": 0.0, "latency_p99_seconds": 0.25 },
            "inputs": [
                { "topic": "a", "lag_records": 5, "lag_seconds": 1.5 }, { "topic": "b", "lag_records": 7, "lag_seconds": 3.25 }
            ],
            "transforms": [{
                "name": "redact\u{1b}[2J", "generation": 3, "inputs": ["a", "b"], "paused_by": "hand", "rate": 9.5, "rate_out": 8.5,
                "kept": 1, "dropped": 2, "emitted": 3, "failures": 4, "dead_letters": 5, "call_p99_ms": 2.5
            }],
        });
        let partition = |of| json!({ "topic": "a", "partition": of, "worker": 0, "lane": 1, "position": 10, "committed": 9, "lag_records": 1, "lag_seconds": 0.5 });
        Now { status, partitions: (0..partitions).map(partition).collect(), lost: None }
    }

    fn drawn(now: &Now, row: &Scroll, (width, height): (u16, u16)) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, "127.0.0.1:9640", now, row)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let cells = buffer.content().chunks(usize::from(width));
        cells.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
    }

    #[test]
    fn everything_of_a_process_is_in_its_place() {
        let lines = drawn(&now(3), &Scroll::default(), (140, 20));
        assert!(lines[0].starts_with("orders 0.1.0 at 127.0.0.1:9640, 2 workers  not ready"), "{lines:#?}");
        assert_eq!(lines[1], "  worker 0 is not in its group");
        assert!(lines[2].starts_with("in 1234.5/s  out 1000.0/s  failures 0.0/s  latency p99 0.25 s"), "{lines:#?}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let row = lines.iter().find(|line| line.starts_with("redact")).unwrap();
        assert_eq!(
            words(row),
            [
                "redact\\u{1b}[2J",
                "3",
                "paused",
                "(hand)",
                "9.5",
                "8.5",
                "1",
                "2",
                "3",
                "4",
                "5",
                "12",
                "3.2",
                "2.5",
                "ms"
            ]
        );
        let partitions: Vec<_> = lines.iter().filter(|line| line.starts_with("a ")).map(|line| words(line)).collect();
        assert_eq!(partitions[2], ["a", "2", "0", "1", "10", "9", "1", "0.5"]);
    }

    #[test]
    fn it_fits_any_terminal_and_partitions_are_gone_through() {
        for size in [(1, 1), (20, 3), (80, 24), (300, 100)] {
            drawn(&now(200), &Scroll::default(), size);
        }
        let mut row = Scroll::default();
        row.go(KeyCode::PageDown);
        row.go(KeyCode::Down);
        row.go(KeyCode::Up);
        row.within(200);
        let first = |lines: Vec<String>| lines.iter().find(|line| line.starts_with("a ")).unwrap().clone();
        assert!(first(drawn(&now(200), &row, (100, 24))).contains(" 10 "));
        row.go(KeyCode::End);
        row.within(200);
        assert_eq!(row.first, 199);
    }

    #[test]
    fn a_server_that_is_gone_is_told_beside_what_was_last_known() {
        let now = Now { lost: Some("127.0.0.1:9640: refused".into()), ..now(1) };
        let lines = drawn(&now, &Scroll::default(), (140, 20));
        assert!(lines[0].contains("not connected: 127.0.0.1:9640: refused"), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("redact")));
    }
}
