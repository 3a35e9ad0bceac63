//! How it feels to play: the client's core against a real session over simulated links, in simulated time.

mod clock;
mod game_loop;
mod harness;
mod interpolation;
mod movers;
mod prediction;
