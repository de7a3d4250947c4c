//! `./dev hostile`: carries out the whole corpus (see [`pelton_integration::hostile`]), prints what became of each attack and
//! what it cost, and with `--write` puts that into docs/security.md. The exit status says whether all was as it must be.

use anyhow::{Context, Result, bail};
use clap::Parser;
use pelton_integration::hostile::grounds::Grounds;
use pelton_integration::hostile::{corpus, measure, report, run};
use pelton_integration::root;

/// Attacks the sandbox in every way that we could think of.
#[derive(Parser)]
struct Args {
    /// Only attacks with this in their name or in their group's title.
    filter: Option<String>,
    /// Write the table into docs/security.md.
    #[arg(long, conflicts_with = "filter")]
    write: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let _alone = measure::alone();
    let grounds = Grounds::new();
    let (mut groups, mut wrong) = (Vec::new(), 0);
    for (title, attacks) in corpus::all(&grounds.granted()) {
        let filter = args.filter.as_deref().unwrap_or_default();
        let mut findings = Vec::new();
        for attack in attacks.iter().filter(|attack| attack.name.contains(filter) || title.contains(filter)) {
            for found in run::run(attack) {
                eprintln!("{} ({:?}): {}", found.name, found.world, found.end);
                for what in &found.wrong {
                    wrong += 1;
                    eprintln!("    WRONG: {what}");
                }
                findings.push(found);
            }
        }
        if !findings.is_empty() {
            groups.push((title, findings));
        }
    }
    let tables = report::tables(&groups);
    if args.write {
        report::write(&root().join("docs/security.md"), &tables).context("docs/security.md")?;
    } else {
        println!("{tables}");
    }
    if wrong > 0 || !grounds.are_untouched() {
        bail!("{wrong} things were not as they must be; files untouched: {}", grounds.are_untouched());
    }
    Ok(())
}
