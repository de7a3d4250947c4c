//! Stacks of samples as a tree, and the tree as a flame graph: an SVG in which each frame is as wide as its share.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

const WIDTH: f64 = 1200.0;
const LINE: f64 = 17.0;
const LETTER: f64 = 6.6;
/// Frames that are narrower are left out.
const NARROWEST: f64 = 1.5;

/// Whose code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Worker,
    Sandbox,
    Guest,
    Librdkafka,
    Kernel,
    /// Who calls it is the owner.
    Library,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::Worker => "the worker, Pelton's own",
            Owner::Sandbox => "the sandbox, with wasmtime",
            Owner::Guest => "the guest",
            Owner::Librdkafka => "librdkafka",
            Owner::Kernel => "the kernel",
            Owner::Library => "others",
        })
    }
}

impl Owner {
    fn colour(self) -> &'static str {
        match self {
            Owner::Worker => "#8ecae6",
            Owner::Sandbox => "#c7b6f2",
            Owner::Guest => "#a8dba8",
            Owner::Librdkafka => "#f6c27a",
            Owner::Kernel => "#d3d3d3",
            Owner::Library => "#f3e9c6",
        }
    }
}

/// What was sampled.
#[derive(Default)]
pub(crate) struct Flame {
    root: Frame,
    owners: BTreeMap<Owner, u64>,
}

#[derive(Default)]
struct Frame {
    samples: u64,
    calls: BTreeMap<(Owner, String), Frame>,
}

impl Flame {
    /// A sample of a thread, its frames from the outermost.
    pub(crate) fn add(&mut self, thread: &str, stack: impl Iterator<Item = (Owner, String)>) {
        let thread = thread.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        self.root.samples += 1;
        let mut owner = Owner::Library;
        let mut frame = self.root.calls.entry((Owner::Library, thread)).or_default();
        frame.samples += 1;
        let mut last = String::new();
        for (of, name) in stack {
            if of != Owner::Library {
                owner = of;
            }
            // A kernel's stack, or a guest's, is one frame.
            if name == last {
                continue;
            }
            last.clone_from(&name);
            frame = frame.calls.entry((of, name)).or_default();
            frame.samples += 1;
        }
        *self.owners.entry(owner).or_default() += 1;
    }

    pub(crate) fn samples(&self) -> u64 {
        self.root.samples
    }

    /// Whose code took which share, the largest first. What a library did is its caller's.
    pub(crate) fn shares(&self) -> Vec<(Owner, f64)> {
        self.sorted(self.owners.iter().map(|(owner, samples)| (*owner, *samples)))
    }

    pub(crate) fn threads(&self) -> Vec<(&str, f64)> {
        self.sorted(self.root.calls.iter().map(|((_, thread), frame)| (thread.as_str(), frame.samples)))
    }

    fn sorted<T>(&self, some: impl Iterator<Item = (T, u64)>) -> Vec<(T, f64)> {
        let mut shares: Vec<(T, f64)> =
            some.map(|(what, samples)| (what, samples as f64 / self.root.samples as f64)).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares
    }

    /// As SVG, the outermost frames below.
    pub(crate) fn draw(&self, title: &str) -> String {
        let scale = WIDTH / self.root.samples.max(1) as f64;
        let height = (self.root.depth(scale) + 3) as f64 * LINE;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
             font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"4\" y=\"14\">{}</text>\n",
            escaped(title)
        );
        let mut x = 4.0;
        for owner in self.owners.keys() {
            let label = owner.to_string();
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.0}\" y=\"20\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" y=\"29\">{label}</text>",
                owner.colour(),
                x + 14.0
            );
            x += 34.0 + label.len() as f64 * LETTER;
        }
        self.root.draw(&mut svg, (0.0, height - LINE), scale);
        svg.push_str("</svg>\n");
        svg
    }
}

impl Frame {
    fn is_drawn(&self, scale: f64) -> bool {
        self.samples as f64 * scale >= NARROWEST
    }

    fn depth(&self, scale: f64) -> usize {
        let below = self.calls.values().filter(|frame| frame.is_drawn(scale)).map(|frame| frame.depth(scale) + 1);
        below.max().unwrap_or(0)
    }

    fn draw(&self, svg: &mut String, (mut x, y): (f64, f64), scale: f64) {
        for ((owner, name), frame) in &self.calls {
            let width = frame.samples as f64 * scale;
            if frame.is_drawn(scale) {
                let name = escaped(name);
                let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
                let shown = if letters < 3 { String::new() } else { short(&name, letters) };
                let _ = writeln!(
                    svg,
                    "<g><title>{name}: {:.1} %</title><rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{}\" \
                     fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.0}\">{shown}</text></g>",
                    width * 100.0 / WIDTH,
                    width - 0.4,
                    LINE - 1.0,
                    owner.colour(),
                    x + 2.0,
                    y + 12.0
                );
                frame.draw(svg, (x, y - LINE), scale);
            }
            x += width;
        }
    }
}

/// No mark of SVG is left in it.
fn escaped(text: &str) -> String {
    text.replace(['<', '>', '&', '"'], "'")
}

fn short(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        name.to_owned()
    } else {
        name.chars().take(letters - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flame() -> Flame {
        let mut flame = Flame::default();
        let frame = |owner, name: &str| (owner, name.to_owned());
        for _ in 0..3 {
            let stack = [frame(Owner::Worker, "turn<T>"), frame(Owner::Guest, "g"), frame(Owner::Guest, "g")];
            flame.add("worker-1", stack.into_iter());
        }
        flame.add("worker-2", [frame(Owner::Librdkafka, "rd_x"), frame(Owner::Library, "memcpy")].into_iter());
        flame
    }

    #[test]
    fn shares_are_of_the_innermost_owner() {
        assert_eq!(flame().shares(), [(Owner::Guest, 0.75), (Owner::Librdkafka, 0.25)]);
        assert_eq!(flame().threads(), [("worker", 1.0)]);
    }

    #[test]
    fn each_frame_is_as_wide_as_its_share() {
        let svg = flame().draw("a < b");
        assert!(svg.contains("a ' b") && svg.contains("<title>turn'T': 75.0 %</title>"), "{svg}");
        assert_eq!(svg.matches("width=\"899.6\"").count(), 2, "the worker's and one of the guest: {svg}");
        assert!(svg.contains("<title>memcpy: 25.0 %</title>") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
