//! The twins of the benchmarks in tokio, where it has the operation: same names, same definitions of one iteration.
//!
//!     twins --list                        names, one a line
//!     twins --run NAME --min-time 0.5     measures that case and prints its figures, "name,value" a line
//!
//! procs 1 is its current_thread runtime, which needs no atomics between workers; procs 2 its multi_thread one with two
//! workers. Everything runs in a spawned task, never in block_on's own future, which no worker has. tokio has no
//! unbuffered channel (capacity 1 stands in for 0, which spares it a hand-over), no channel with many receivers, no
//! select over a number of channels that is known at run time only, no condition variable and, in this crate, no
//! contexts: those cases are absent.
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, Mutex, Notify, RwLock};
use tokio::task::JoinHandle;
use tokio::time::{sleep, Sleep};

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

const HOUR: Duration = Duration::from_secs(3600);

// --- what it is measured with

enum Kind {
    Operation,       // repeated until it takes the minimal time
    Program(u64),    // once; so many iterations
    Bytes(usize),    // resident bytes that it adds, divided by so many tasks
    Idle,            // CPU time of five seconds in which nothing happens
}

struct Case {
    name: String,
    kind: Kind,
    prepare: fn(usize) -> Pending<Vec<Pin<Box<Sleep>>>>,
    prepared: usize,
    run: Box<dyn Fn(u64) -> Pending<()> + Send + Sync>,
}

struct Cases(Vec<Case>);

impl Cases {
    fn add<F, R>(&mut self, name: impl Into<String>, kind: Kind, run: F)
    where
        F: Fn(u64) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let run = Box::new(move |n| Box::pin(run(n)) as Pending<()>);
        self.0.push(Case { name: name.into(), kind, prepare: |n| Box::pin(arm(n)), prepared: 0, run });
    }
    fn operation<F, R>(&mut self, name: impl Into<String>, run: F)
    where
        F: Fn(u64) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.add(name, Kind::Operation, run);
    }
    fn program<F, R>(&mut self, name: impl Into<String>, run: F)
    where
        F: Fn(u64) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.add(name, Kind::Program(1), run);
    }
}

fn clock(path: &str, key: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn resident() -> f64 {
    1024.0 * clock("/proc/self/status", "VmRSS:")
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn cpu_ns() -> f64 {
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut t = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the C library fills in the structure, which has its layout on 64-bit Linux.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    1e9 * t.seconds as f64 + t.nanoseconds as f64
}

async fn measure(case: &Case, min_time: f64) {
    let _prepared = (case.prepare)(case.prepared).await;
    let mut n = if let Kind::Program(iterations) = case.kind { iterations } else { 1 };
    loop {
        let before = resident();
        let cpu_before = cpu_ns();
        let begin = Instant::now();
        (case.run)(n).await;
        let took = begin.elapsed().as_secs_f64();
        let cpu = cpu_ns() - cpu_before;
        match case.kind {
            Kind::Bytes(tasks) => return println!("bytes,{}", (resident() - before) / tasks as f64),
            Kind::Idle => return println!("cpu_percent,{}", 100.0 * cpu / 1e9 / took),
            _ => (),
        }
        if took >= min_time || n >= 1_000_000_000 || matches!(case.kind, Kind::Program(_)) {
            return println!("time,{}\ncpu,{}", 1e9 * took / n as f64, cpu / n as f64);
        }
        n = if took > min_time / 10.0 { (1.4 * n as f64 * min_time / took) as u64 + 1 } else { n * 10 };
    }
}

fn share(n: u64, index: u64, tasks: u64) -> u64 {
    n / tasks + u64::from(index < n % tasks)
}

async fn join_all<T>(handles: Vec<JoinHandle<T>>) {
    for handle in handles {
        handle.await.unwrap();
    }
}

/// Polls once: a timer is armed when it is polled first.
struct Once<'a>(Pin<&'a mut Sleep>);
impl Future for Once<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let _ = self.0.as_mut().poll(context);
        Poll::Ready(())
    }
}

async fn arm(count: usize) -> Vec<Pin<Box<Sleep>>> {
    let mut all = Vec::with_capacity(count);
    for i in 0..count {
        let mut timer = Box::pin(sleep(2 * HOUR + Duration::from_millis(i as u64)));
        Once(timer.as_mut()).await;
        all.push(timer);
    }
    all
}

// --- tasks

async fn yields(n: u64) {
    let tasks = (0..2).map(|i| {
        tokio::spawn(async move {
            for _ in 0..share(n, i, 2) {
                tokio::task::yield_now().await;
            }
        })
    });
    join_all(tasks.collect()).await;
}

async fn spawn_wait(n: u64) {
    let mut left = n;
    while left > 0 {
        let batch = left.min(1000);
        join_all((0..batch).map(|_| tokio::spawn(async {})).collect()).await;
        left -= batch;
    }
}

async fn spawn_join(n: u64) {
    let mut sum = 0;
    for k in 0..n {
        sum += tokio::spawn(async move { k }).await.unwrap();
    }
    std::hint::black_box(sum);
}

// --- channels

async fn ping_pong(n: u64, capacity: usize) {
    let (ping, mut asked) = mpsc::channel::<i32>(capacity);
    let (answer, mut pong) = mpsc::channel::<i32>(capacity);
    tokio::spawn(async move {
        while let Some(v) = asked.recv().await {
            if answer.send(v).await.is_err() {
                return;
            }
        }
    });
    for _ in 0..n {
        ping.send(1).await.unwrap();
        pong.recv().await.unwrap();
    }
}

async fn wake_thread(n: u64) {
    let (ping, mut asked) = mpsc::channel::<i32>(1);
    let (answer, mut pong) = mpsc::channel::<i32>(1);
    std::thread::spawn(move || {
        while let Some(v) = asked.blocking_recv() {
            if answer.blocking_send(v).is_err() {
                return;
            }
        }
    });
    for _ in 0..n {
        ping.send(1).await.unwrap();
        pong.recv().await.unwrap();
    }
}

async fn uncontended(n: u64) {
    let (to, mut from) = mpsc::channel::<i32>(100);
    let mut left = n;
    while left > 0 {
        let batch = left.min(100);
        for _ in 0..batch {
            to.send(0).await.unwrap();
        }
        for _ in 0..batch {
            from.recv().await.unwrap();
        }
        left -= batch;
    }
}

async fn prod_cons(n: u64, capacity: usize) {
    let (to, mut from) = mpsc::channel::<i32>(capacity);
    tokio::spawn(async move {
        for _ in 0..n {
            to.send(1).await.unwrap();
        }
    });
    let mut sum = 0i64;
    while let Some(v) = from.recv().await {
        sum += i64::from(v);
    }
    std::hint::black_box(sum);
}

// --- select

type Channels = (Vec<mpsc::Sender<i32>>, Vec<mpsc::Receiver<i32>>);

fn channels(count: usize) -> Channels {
    (0..count).map(|_| mpsc::channel(1)).unzip()
}

async fn select_one(from: &mut [mpsc::Receiver<i32>]) -> usize {
    match from {
        [a, b] => tokio::select! { _ = a.recv() => 0, _ = b.recv() => 1 },
        [a, b, c, d, e, f, g, h] => tokio::select! {
            _ = a.recv() => 0, _ = b.recv() => 1, _ = c.recv() => 2, _ = d.recv() => 3,
            _ = e.recv() => 4, _ = f.recv() => 5, _ = g.recv() => 6, _ = h.recv() => 7,
        },
        _ => unreachable!(),
    }
}

async fn select_ready(n: u64, cases: usize, procs: u64) {
    let tasks = (0..procs).map(|p| {
        tokio::spawn(async move {
            let (to, mut from) = channels(cases);
            to[0].send(0).await.unwrap();
            for _ in 0..share(n, p, procs) {
                let i = select_one(&mut from).await;
                to[(i + 1) % cases].send(0).await.unwrap();
            }
        })
    });
    join_all(tasks.collect()).await;
}

async fn select_blocking(n: u64, cases: usize) {
    let (to, mut from) = channels(cases);
    tokio::spawn(async move {
        for k in 0..n as usize {
            to[k % cases].send(1).await.unwrap();
        }
        std::future::pending::<()>().await; // a closed channel would be ready
    });
    for _ in 0..n {
        select_one(&mut from).await;
    }
}

async fn select_default(n: u64) {
    let (_to, mut from) = mpsc::channel::<i32>(1);
    let mut missed = 0u64;
    for _ in 0..n {
        missed += u64::from(from.try_recv().is_err());
    }
    std::hint::black_box(missed);
}

async fn select_timeout(n: u64) {
    let (to, mut from) = mpsc::channel::<i32>(1);
    tokio::spawn(async move {
        for _ in 0..n {
            to.send(1).await.unwrap();
        }
    });
    for _ in 0..n {
        tokio::time::timeout(HOUR, from.recv()).await.unwrap();
    }
}

// --- sync

async fn mutex(n: u64, tasks: u64) {
    let m = Arc::new(Mutex::new(0u64));
    let all = (0..tasks).map(|i| {
        let m = m.clone();
        tokio::spawn(async move {
            for _ in 0..share(n, i, tasks) {
                *m.lock().await += 1;
            }
        })
    });
    join_all(all.collect()).await;
}

/// write_each: every so-manieth time to write, else to read; 0: never.
async fn shared_mutex(n: u64, tasks: u64, write_each: u64) {
    let m = Arc::new(RwLock::new(0u64));
    let all = (0..tasks).map(|i| {
        let m = m.clone();
        tokio::spawn(async move {
            for k in 0..share(n, i, tasks) {
                if write_each > 0 && k % write_each == 0 {
                    *m.write().await += 1;
                } else {
                    std::hint::black_box(*m.read().await);
                }
            }
        })
    });
    join_all(all.collect()).await;
}

// --- time

async fn start_stop(n: u64) {
    for _ in 0..n {
        let timer = sleep(HOUR);
        tokio::pin!(timer);
        Once(timer).await;
    }
}

// --- programs

async fn sleep_storm() {
    let tasks = (0..10_000).map(|_| {
        tokio::spawn(async {
            for _ in 0..20 {
                sleep(Duration::from_millis(1)).await;
            }
        })
    });
    join_all(tasks.collect()).await;
}

fn skynet_channels(out: mpsc::Sender<u64>, first: u64, size: u64) -> Pending<()> {
    Box::pin(async move {
        if size == 1 {
            return out.send(first).await.unwrap();
        }
        let (to, mut from) = mpsc::channel(1);
        for i in 0..10 {
            tokio::spawn(skynet_channels(to.clone(), first + i * (size / 10), size / 10));
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += from.recv().await.unwrap();
        }
        out.send(sum).await.unwrap();
    })
}

fn skynet_join(first: u64, size: u64) -> Pending<u64> {
    Box::pin(async move {
        if size == 1 {
            return first;
        }
        let mut children = Vec::with_capacity(10);
        for i in 0..10 {
            children.push(tokio::spawn(skynet_join(first + i * (size / 10), size / 10)));
        }
        let mut sum = 0;
        for child in children {
            sum += child.await.unwrap();
        }
        sum
    })
}

fn fib(n: u64) -> Pending<u64> {
    Box::pin(async move {
        if n < 2 {
            return n;
        }
        let a = tokio::spawn(fib(n - 1));
        let b = tokio::spawn(fib(n - 2));
        a.await.unwrap() + b.await.unwrap()
    })
}

const BOARD: u32 = 11;

fn queens(row: u32, columns: u32, left: u32, right: u32) -> Pending<u64> {
    Box::pin(async move {
        if row == BOARD {
            return 1;
        }
        let mut children = Vec::with_capacity(BOARD as usize);
        let mut free = !(columns | left | right) & ((1 << BOARD) - 1);
        while free != 0 {
            let bit = free & free.wrapping_neg();
            children.push(tokio::spawn(queens(row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)));
            free &= free - 1;
        }
        let mut sum = 0;
        for child in children {
            sum += child.await.unwrap();
        }
        sum
    })
}

const ORDER: usize = 512;

/// A place in a matrix that other tasks write other parts of.
#[derive(Clone, Copy)]
struct Place(*mut f64);
unsafe impl Send for Place {}
impl Place {
    fn at(self, offset: usize) -> Place {
        // SAFETY: multiply() stays within its quarter.
        Place(unsafe { self.0.add(offset) })
    }
    fn row(self, i: usize, n: usize) -> &'static mut [f64] {
        // SAFETY: the matrices outlive all tasks; four tasks at a time write four different quarters.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(i * ORDER), n) }
    }
}

fn multiply(a: Place, b: Place, c: Place, n: usize) -> Pending<()> {
    Box::pin(async move {
        if n <= 64 {
            for i in 0..n {
                let (x, out) = (a.row(i, n), c.row(i, n));
                for k in 0..n {
                    for (o, y) in out.iter_mut().zip(b.row(k, n).iter()) {
                        *o += x[k] * y;
                    }
                }
            }
            return;
        }
        let (h, down) = (n / 2, n / 2 * ORDER);
        for k in 0..2 {
            let (left, top) = (a.at(k * h), b.at(k * down));
            let quarters = vec![
                tokio::spawn(multiply(left, top, c, h)),
                tokio::spawn(multiply(left, top.at(h), c.at(h), h)),
                tokio::spawn(multiply(left.at(down), top, c.at(down), h)),
                tokio::spawn(multiply(left.at(down), top.at(h), c.at(down + h), h)),
            ];
            join_all(quarters).await;
        }
    })
}

async fn matmul() {
    let mut a = vec![1.0; ORDER * ORDER];
    let mut b = vec![2.0; ORDER * ORDER];
    let mut c = vec![0.0; ORDER * ORDER];
    let places = (Place(a.as_mut_ptr()), Place(b.as_mut_ptr()), Place(c.as_mut_ptr()));
    multiply(places.0, places.1, places.2, ORDER).await;
    assert!(c.iter().all(|x| *x == 2.0 * ORDER as f64));
}

async fn sieve() {
    let (to, mut numbers) = mpsc::channel::<u32>(1);
    tokio::spawn(async move {
        let mut i = 2;
        while to.send(i).await.is_ok() {
            i += 1;
        }
    });
    let mut prime = 0;
    for _ in 0..2000 {
        prime = numbers.recv().await.unwrap();
        let divisor = prime;
        let (to, left) = mpsc::channel::<u32>(1);
        tokio::spawn(async move {
            while let Some(i) = numbers.recv().await {
                if i % divisor != 0 && to.send(i).await.is_err() {
                    return;
                }
            }
        });
        numbers = left;
    }
    assert_eq!(prime, 17389);
}

async fn blocking() {
    let tasks = (0..100).map(|_| {
        tokio::spawn(async {
            for _ in 0..20 {
                let nap = || std::thread::sleep(Duration::from_millis(1));
                tokio::task::spawn_blocking(nap).await.unwrap();
            }
        })
    });
    join_all(tasks.collect()).await;
}

/// Tasks that have run, and wait for ever.
async fn blocked_tasks(tasks: usize) {
    let started = Arc::new((AtomicUsize::new(0), Notify::new()));
    let never = Arc::new(Notify::new());
    for _ in 0..tasks {
        let (started, never) = (started.clone(), never.clone());
        tokio::spawn(async move {
            if started.0.fetch_add(1, Ordering::AcqRel) + 1 == tasks {
                started.1.notify_one();
            }
            never.notified().await;
        });
    }
    started.1.notified().await;
}

async fn unstarted_tasks(tasks: usize) {
    for _ in 0..tasks {
        tokio::spawn(async {});
    }
}

async fn idle() {
    sleep(Duration::from_secs(5)).await;
}

fn all_cases(procs: usize) -> Cases {
    let mut c = Cases(Vec::new());
    c.operation("task/yield", yields);
    c.operation("task/spawn_wait", spawn_wait);
    c.operation("task/spawn_join", spawn_join);
    for capacity in [0, 1] {
        c.operation(format!("chan/ping_pong/cap:{}", capacity), |n| ping_pong(n, 1));
    }
    c.operation("wake/thread", wake_thread);
    c.operation("chan/uncontended/cap:100", uncontended);
    for capacity in [0, 10, 100, 1000] {
        c.operation(format!("chan/prod_cons/cap:{}", capacity), move |n| prod_cons(n, capacity.max(1)));
    }
    for cases in [2, 8] {
        c.operation(format!("select/ready/cases:{}", cases), move |n| select_ready(n, cases, procs as u64));
        c.operation(format!("select/blocking/cases:{}", cases), move |n| select_blocking(n, cases));
    }
    c.operation("select/default", select_default);
    c.operation("select/timeout", select_timeout);
    c.operation("sync/mutex/uncontended", |n| mutex(n, 1));
    c.operation("sync/mutex/contended", |n| mutex(n, 8));
    c.operation("sync/shared_mutex/read", move |n| shared_mutex(n, procs as u64, 0));
    c.operation("sync/shared_mutex/write", |n| shared_mutex(n, 1, 1));
    c.operation("sync/shared_mutex/contended", |n| shared_mutex(n, 8, 10));
    c.operation("time/timer/start_stop", start_stop);
    for live in [1_000, 100_000] {
        c.operation(format!("time/timer/start_stop/live:{}", live), start_stop);
        c.0.last_mut().unwrap().prepared = live;
    }
    c.program("program/sleep_storm", |_| sleep_storm());
    c.program("program/skynet_channels", |_| async {
        let (to, mut from) = mpsc::channel(1);
        tokio::spawn(skynet_channels(to, 0, 1_000_000));
        assert_eq!(from.recv().await, Some(499_999_500_000));
    });
    c.program("program/skynet_join", |_| async { assert_eq!(skynet_join(0, 1_000_000).await, 499_999_500_000) });
    c.add("program/fib_join", Kind::Program(2 * 317_811 - 1), |_| async { assert_eq!(fib(27).await, 196_418) });
    c.program("program/nqueens", |_| async { assert_eq!(queens(0, 0, 0, 0).await, 2_680) });
    c.program("program/matmul", |_| matmul());
    c.program("program/sieve", |_| sieve());
    c.program("program/blocking/announced", |_| blocking());
    c.program("program/create_1m", |_| blocked_tasks(1_000_000));
    for tasks in [10_000, 100_000, 1_000_000] {
        let name = format!("memory/blocked_task/tasks:{}", tasks);
        c.add(name, Kind::Bytes(tasks), move |_| blocked_tasks(tasks));
    }
    if procs == 1 {
        c.add("memory/unstarted_task/tasks:1000000", Kind::Bytes(1_000_000), |_| unstarted_tasks(1_000_000));
    }
    c
}

fn run(case: Case, procs: usize, min_time: f64) {
    let runtime = if procs == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(procs).enable_all().build()
    }
    .unwrap();
    runtime.block_on(async { tokio::spawn(async move { measure(&case, min_time).await }).await.unwrap() });
    std::process::exit(0); // what is left of a program is not taken apart
}

fn main() {
    let (mut list, mut wanted, mut min_time) = (false, String::new(), 0.5);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--list", None) => list = true,
            ("--run", Some(name)) => wanted = name,
            ("--min-time", Some(seconds)) => min_time = seconds.parse().unwrap(),
            _ => {
                eprintln!("usage: twins --list | --run NAME [--min-time SECONDS]");
                std::process::exit(2);
            }
        }
    }
    for procs in [1, 2, 64] {
        let cases = if procs == 64 { idle_case() } else { all_cases(procs) };
        for case in cases.0 {
            let name = format!("{}/procs:{}", case.name, procs);
            if list {
                println!("{}", name);
            } else if name == wanted {
                run(case, procs, min_time);
            }
        }
    }
    if !list {
        eprintln!("no case {}", wanted);
        std::process::exit(2);
    }
}

fn idle_case() -> Cases {
    let mut c = Cases(Vec::new());
    c.add("idle", Kind::Idle, |_| idle());
    c
}
