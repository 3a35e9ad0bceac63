//! What holds peers to [`Limits`](crate::Limits): who may connect and join, how many may do a thing at once, and how often
//! which limit has told somebody no. docs/limits.md has them all.

mod admission;
mod quota;
mod reasons;

pub(crate) use admission::{Admission, Admitted, TooMany, is_limited};
pub(crate) use quota::{NoPlace, Permit, Place, Quota};
pub(crate) use reasons::{RefusalCounters, RefusalReason};
