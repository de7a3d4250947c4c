//! The terminal while `top` has it: the alternate screen, keys as they are pressed, no cursor. It is restored at the
//! end, on an error, on a panic (before its message is written) and when a signal ends the process.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::feed::{self, News, Now};
use super::view::{self, Scroll};
use crate::cli::endpoint::Endpoint;

/// How long a key press or news may wait.
const LOOK: Duration = Duration::from_millis(50);

/// Restores the terminal when dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Runs until somebody ends it.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) fn show(endpoint: &Endpoint, interval: Duration) -> io::Result<()> {
    let news = feed::start(endpoint, interval)?;
    // It also makes a panic restore the terminal.
    let mut terminal = ratatui::try_init()?;
    let _restored = Restored;
    run(&mut terminal, &endpoint.name(), &news)
}

fn run(terminal: &mut DefaultTerminal, endpoint: &str, news: &Receiver<News>) -> io::Result<()> {
    let (mut now, mut row) = (Now { lost: Some("asking".to_owned()), ..Now::default() }, Scroll::default());
    let mut changed = true;
    loop {
        match news.try_recv() {
            Ok(News::Answer(answer)) => (now, changed) = (*answer, true),
            Ok(News::Lost(why)) => (now.lost, changed) = (Some(why), true),
            Ok(News::End) | Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
        if changed {
            row.within(now.partitions.len());
            terminal.draw(|frame| view::draw(frame, endpoint, &now, &row))?;
        }
        changed = event::poll(LOOK)?;
        if changed {
            match event::read()? {
                Event::Key(key) if is_end(key) => return Ok(()),
                Event::Key(key) => row.go(key.code),
                _ => {}
            }
        }
    }
}

fn is_end(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            KeyCode::Char('c' | 'C' | 'd') => control,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::pty_support;

    const ON_SCREEN: &str = "PELTON_TEST_PANIC_ON_SCREEN";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_why() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cli::top::screen::tests::panics_on_the_screen", "--nocapture"]).env(ON_SCREEN, "1");
        let terminal = pty_support::Terminal::start(command);
        let before = terminal.modes();
        let (_, seen) = terminal.end();
        let (entered, left) = (seen.find("\u{1b}[?1049h").unwrap(), seen.find("\u{1b}[?1049l").unwrap());
        let said = seen.find("for all to read").unwrap();
        assert!(entered < left && left < said, "{seen:?}");
        assert!(before.0 && before.1, "lines and echo, as a shell leaves them");
    }

    /// Started by the test above, on a pseudo-terminal; by itself it does nothing.
    #[test]
    fn panics_on_the_screen() {
        if std::env::var_os(ON_SCREEN).is_none() {
            return;
        }
        let _terminal = ratatui::try_init().unwrap();
        let _restored = Restored;
        panic!("for all to read");
    }
}
