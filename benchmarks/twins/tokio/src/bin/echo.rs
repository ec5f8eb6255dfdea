//! The twin of echo_server.cpp: sends back what it gets.
//!
//! What computes or sleeps in the kernel runs in tokio's blocking threads, as its documentation asks for.
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn compute() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1) {}
}

async fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0u8; 4096];
    loop {
        let n = match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => n,
            _ => return,
        };
        match buffer[0] {
            b'b' => tokio::task::spawn_blocking(compute).await.unwrap(),
            b'w' => tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(10))).await.unwrap(),
            _ => (),
        }
        if stream.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(echo(stream));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 5 || arguments[1] != "--addr" || arguments[3] != "--procs" {
        eprintln!("usage: echo --addr HOST:PORT --procs N");
        std::process::exit(2);
    }
    let procs: usize = arguments[4].parse().unwrap();
    let runtime = if procs == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(procs).enable_all().build()
    }
    .unwrap();
    let address = arguments[2].parse().unwrap();
    runtime.block_on(async { tokio::spawn(serve(address)).await.unwrap() });
}
