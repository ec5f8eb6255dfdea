// The runtime: options, run, runtime, runtime_stats.
//
//   int main() { return mpg::run([] { ...; return 0; }); }
//
// run starts Ps (as many as the process may use CPUs) and threads as needed, runs main as the first task, and when it
// returns ends all other tasks: those that wait are resumed with mpg::unwound, so that destructors run.
#pragma once

#include <mpg/cancel/runtime.hpp>
#include <mpg/io/drivers.hpp>
#include <mpg/sched/whole.hpp>
