//! `pelton completions` and `pelton man`: shell completions and manual pages, generated from the command line's
//! definitions, so that they cannot differ from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit, print};

/// Prints a shell script that completes commands, options and their values.
#[derive(Debug, Args)]
#[command(after_help = "\
bash: pelton completions bash > /usr/share/bash-completion/completions/pelton
zsh:  pelton completions zsh > /usr/local/share/zsh/site-functions/_pelton
fish: pelton completions fish > ~/.config/fish/completions/pelton.fish")]
pub(super) struct Completions {
    /// The shell to write it for.
    shell: Shell,
}

/// Without a directory, prints the page of `pelton` itself: `pelton man | man -l -`.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Write all pages into this directory, one per command: `pelton.1`, `pelton-run.1`, … Created if needed.
    dir: Option<PathBuf>,
}

pub(super) fn completions(wanted: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Cli::command(), "pelton", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn manual(wanted: &Manual) -> Exit {
    let Some(dir) = &wanted.dir else {
        return match pages().first().map(|(_, command)| page(command)) {
            Some(Ok(page)) => print(&String::from_utf8_lossy(&page)),
            Some(Err(why)) => cannot("stdout", &why),
            None => Exit::Internal,
        };
    };
    match write(dir) {
        Ok(()) => Exit::Ok,
        Err(why) => cannot(&dir.display().to_string(), &why),
    }
}

fn cannot(place: &str, why: &io::Error) -> Exit {
    eprintln!("error: cannot write the manual to {place}: {why}");
    Exit::Io
}

fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, command) in pages() {
        fs::write(dir.join(format!("{name}.1")), page(&command)?)?;
    }
    Ok(())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).source(concat!("pelton ", env!("CARGO_PKG_VERSION"))).manual("Pelton");
    man.render(&mut page)?;
    Ok(page)
}

/// All commands that are shown, each under the name of its page, `pelton` first.
fn pages() -> Vec<(String, Command)> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    gather(&root, "pelton", &mut pages);
    pages
}

fn gather(command: &Command, name: &str, pages: &mut Vec<(String, Command)>) {
    // Pages are found by their whole names.
    pages.push((name.to_owned(), command.clone().display_name(name.to_owned())));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        gather(inner, &format!("{name}-{}", inner.get_name()), pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// Its shown commands, by their words: `pelton`, `pelton offsets`, `pelton offsets show`, …
    fn words(command: &Command, before: &str, all: &mut Vec<String>) {
        let path = format!("{before}{}", command.get_name());
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            words(inner, &format!("{path} "), all);
        }
        all.push(path);
    }

    fn commands() -> Vec<String> {
        let mut all = Vec::new();
        words(&Cli::command(), "", &mut all);
        assert!(all.len() > 20, "{all:?}");
        all
    }

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("man1")).unwrap();
        for command in commands() {
            let path = dir.path().join(format!("man1/{}.1", command.replace(' ', "-")));
            let page = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            // roff writes a hyphen that is meant as `\-`.
            let plain = page.replace("\\-", "-");
            assert!(plain.contains(&format!(".TH {} 1", command.replace(' ', "-"))), "{plain}");
            assert!(plain.contains(&command), "{command} is not in its synopsis: {plain}");
            assert!(plain.contains("--config") && plain.contains("PELTON_CONFIG"), "{command}: {plain}");
        }
        let written = fs::read_dir(dir.path().join("man1")).unwrap().count();
        assert_eq!(written, commands().len(), "nothing that is hidden has a page");
        let page = fs::read_to_string(dir.path().join("man1/pelton-offsets-reset.1")).unwrap().replace("\\-", "-");
        assert!(page.contains("--execute") && page.contains("--to"), "{page}");
    }

    #[test]
    fn every_command_is_in_the_completions_of_every_shell() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "pelton", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in commands() {
                let last = command.split(' ').next_back().unwrap();
                assert!(script.contains(last), "{shell} does not know {command}");
            }
            assert!(script.contains("--execute") || script.contains("-l execute"), "{shell} does not know --execute");
        }
    }
}
