//! The hostile corpus (`integration/hostile/`): transforms that attack the sandbox in every way that we could think of, and
//! what must become of each. Proves I8 (a guest reaches nothing that was not granted and takes no more than its limits)
//! and the part of I9 that is a guest's.
//!
//! [`corpus`] is the table of attacks and expectations, in the words of [`attack`]; [`guests`] builds the modules, [`bombs`]
//! generates those that attack the compiler, [`grounds`] lays out files; [`run`] carries an attack out between innocent records and judges it by what
//! [`measure`] saw; [`report`] writes docs/security.md's table.

pub mod attack;
pub mod bombs;
pub mod corpus;
pub mod grounds;
pub mod guests;
pub mod measure;
pub mod report;
pub mod run;
