//! How long the steps of a message take: `cargo bench --bench hot_path`.

mod scenarios;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scenarios::{Cursors, Door, LINES_A_READ, Reading, Sockets, Stored, encode, runtime};

fn hot_path(criterion: &mut Criterion) {
    let mut lines = criterion.benchmark_group("read");
    lines.throughput(Throughput::Elements(LINES_A_READ as u64));
    let mut reading = Reading::new();
    lines.bench_function("32 lines", |bencher| bencher.iter(|| reading.read()));
    lines.finish();

    let mut id = 0;
    criterion.bench_function("encode a message", |bencher| {
        bencher.iter(|| {
            id += 1;
            encode(id)
        });
    });

    let mut publish = criterion.benchmark_group("publish");
    for members in [10, 1000] {
        let mut cursors = Cursors::new(members);
        publish.throughput(Throughput::Elements(members as u64));
        publish.bench_function(format!("to {members} cursors"), |bencher| {
            bencher.iter(|| cursors.say());
        });
    }
    publish.finish();

    let runtime = runtime();
    let mut door = runtime.block_on(Door::new(1000));
    criterion.bench_function("join with 1000 lines of history", |bencher| {
        bencher.iter(|| runtime.block_on(door.visit()));
    });

    let mut sockets = runtime.block_on(Sockets::new(100));
    criterion.bench_function("one message to 100 sockets", |bencher| {
        bencher.iter_custom(|rounds| {
            let start = std::time::Instant::now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    sockets.say().await;
                    sockets.check(1).await;
                }
            });
            start.elapsed()
        });
    });

    let stored = runtime.block_on(Stored::new(1000));
    criterion.bench_function("start with 1000 stored messages, and stop", |bencher| {
        bencher.iter(|| runtime.block_on(stored.start()));
    });
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
