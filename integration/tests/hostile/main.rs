//! The hostile corpus, group by group: every attack ends as its row says, within its bounds, and hurts nobody else. See
//! `pelton_integration::hostile`.

mod modules;
mod pool;

use pelton_integration::hostile::attack::Attack;
use pelton_integration::hostile::grounds::Grounds;
use pelton_integration::hostile::{corpus, measure, run};

fn carry_out(attacks: impl FnOnce() -> Vec<Attack>) {
    let _alone = measure::alone();
    // made now, so that they are no other test's memory
    let attacks = attacks();
    let mut wrong = Vec::new();
    for found in attacks.iter().flat_map(run::run).filter(|found| !found.wrong.is_empty()) {
        wrong.push(format!("{} ({:?}): {:#?}", found.name, found.world, found.wrong));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
}

#[test]
fn time() {
    carry_out(corpus::time);
}

#[test]
fn memory() {
    carry_out(corpus::memory);
}

#[test]
fn outputs() {
    carry_out(corpus::outputs);
}

#[test]
fn frames() {
    carry_out(corpus::frames);
}

#[test]
fn window() {
    carry_out(corpus::window);
}

#[test]
fn endings() {
    carry_out(corpus::endings);
}

#[test]
fn reach() {
    let grounds = Grounds::new();
    carry_out(|| corpus::reach(&grounds.granted()));
    assert!(grounds.are_untouched());
}

#[test]
fn imports() {
    carry_out(corpus::imports);
}

#[test]
fn configure() {
    carry_out(corpus::configure);
}

#[test]
fn compiler() {
    carry_out(corpus::compiler);
}

#[test]
fn the_corpus_is_as_large_as_it_should_be_and_names_each_attack_once() {
    let _alone = measure::alone();
    let attacks: Vec<Attack> = corpus::all("/".as_ref()).into_iter().flat_map(|(_, attacks)| attacks).collect();
    let names: std::collections::BTreeSet<_> = attacks.iter().map(|attack| attack.name).collect();
    assert_eq!(names.len(), attacks.len());
    assert!(attacks.len() >= 150, "{}", attacks.len());
}

/// Of small blocks: those end at the arena's end, which glibc keeps.
#[test]
fn what_a_thread_has_freed_is_not_resident() {
    let _alone = measure::alone();
    let (taken, left) = std::thread::spawn(|| {
        let before = measure::resident();
        let blocks: Vec<Vec<u8>> = (0..200_000).map(|_| vec![1; 32]).collect();
        let taken = measure::resident().saturating_sub(before);
        drop(std::hint::black_box(blocks));
        (taken, measure::resident().saturating_sub(before))
    })
    .join()
    .unwrap();
    assert!(taken > 6 << 20, "{taken}");
    assert!(left < 1 << 20, "{left}");
}
