#pragma once

#include <cstdint>
#include <mpg/chan.hpp>
#include <mpg/runtime.hpp>

/// Starts a task that sends 0 .. n-1 and closes the channel.
void produce(mpg::chan<int> c, int n);
/// What the other translation unit takes for the current task and runtime.
std::uint64_t task_seen_by_other_unit();
mpg::runtime* runtime_seen_by_other_unit();
