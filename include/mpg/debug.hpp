// Looking into a running process, with the tools that are there for Go.
//
//   mpg::debug::dump_tasks(std::cerr);           every task: state, what it waits for, who started it, its stack
//
//   mpg::debug::report_leaks(std::cerr);         tasks that have waited for a minute, by where they were started
//   mpg::debug::prove_stuck();                   tasks that can be proved never to go on, and why
//   mpg::debug::leak_watch watch;                a log line for each group of such tasks that grows
//   mpg::debug::start_trace(); ... mpg::debug::write_trace(file);      the flight recorder, for ui.perfetto.dev;
//                                                write_go_trace(file): for `go tool trace`
//   mpg::debug::trace_at_fatal_error("last.trace");  and, while it is on, a file of it when the process dies of one
//   mpg::debug::set_block_profile_rate(10'000);   one sample for each 10 us that tasks wait for each other
//   mpg::debug::set_mutex_profile_fraction(10);   one of 10 releases of a lock that others wait for
//   mpg::debug::named_channel jobs_metric("jobs", jobs);              its length and capacity in the metrics
//   mpg::debug::dump_on(SIGQUIT);                dump_tasks when the signal comes
//
//   mpg::http::server server;
//   mpg::debug::handlers(server);                 /debug/pprof/goroutine, /debug/pprof/profile, ..., /metrics
//
//   go tool pprof http://localhost:8080/debug/pprof/profile
//
// With this header, the reports of deadlocks and of exceptions that leave a task have stacks and names too. Names come
// from elfutils' libdw where the CMake package has found it; else stacks are addresses, as addr2line takes them.
// Compile with -g1 at least, for files and lines. See docs/observability.md.
#pragma once

#include <mpg/debug/channels.hpp>
#include <mpg/debug/contention.hpp>
#include <mpg/debug/dump.hpp>
#include <mpg/debug/go_trace.hpp>
#include <mpg/debug/handlers.hpp>
#include <mpg/debug/heap.hpp>
#include <mpg/debug/last_trace.hpp>
#include <mpg/debug/leaks.hpp>
#include <mpg/debug/metrics.hpp>
#include <mpg/debug/on_signal.hpp>
#include <mpg/debug/prove.hpp>
#include <mpg/debug/reports.hpp>
#include <mpg/debug/trace.hpp>
#include <mpg/io/drivers.hpp>
#include <mpg/sched/whole.hpp>
