//! A fixed scenario, so many times: `instructions SCENARIO ROUNDS`. Its instructions are counted
//! by `scripts/test instructions`.

mod scenarios;

use scenarios::{Cursors, Door, LINES_A_READ, Reading, Sockets, Stored, encode, runtime};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [scenario, rounds] = arguments.as_slice() else {
        // `cargo bench` and `cargo test` come without a scenario: each one, once.
        for scenario in ["read", "encode", "publish", "join", "deliver", "start"] {
            run(scenario, LINES_A_READ);
        }
        return;
    };
    run(scenario, rounds.parse().expect("a number of rounds"));
}

fn run(scenario: &str, rounds: usize) {
    match scenario {
        "read" => {
            let mut reading = Reading::new();
            (0..rounds / LINES_A_READ).for_each(|_| reading.read());
        }
        "encode" => (0..rounds as u64).for_each(|id| drop(encode(id))),
        "publish" => {
            let mut cursors = Cursors::new(10);
            (0..rounds).for_each(|_| cursors.say());
        }
        "join" => runtime().block_on(async {
            let mut door = Door::new(1000).await;
            for _ in 0..rounds {
                door.visit().await;
            }
        }),
        "deliver" => runtime().block_on(async {
            let mut sockets = Sockets::new(100).await;
            for _ in 0..rounds {
                sockets.say().await;
            }
            sockets.check(rounds).await;
        }),
        "start" => runtime().block_on(async {
            let stored = Stored::new(1000).await;
            for _ in 0..rounds / LINES_A_READ {
                stored.start().await;
            }
        }),
        _ => panic!("there is no scenario {scenario}"),
    }
}
