// Locks and what else strands meet at. Everything works for tasks and plain threads alike.
//
//   mpg::mutex m;
//   std::lock_guard guard(m);                 // parks the task, not its thread
//
// mutex                shared_mutex: the standard named requirements, timed forms included
// condition_variable   with std::unique_lock<mpg::mutex>
// wait_group           add, done, wait, go
// once, semaphore, latch, barrier, pool<T>
// How a strand waits in a queue: <mpg/sync/waiting.hpp>.
#pragma once

#include <mpg/sched/whole.hpp>
#include <mpg/sync/barrier.hpp>
#include <mpg/sync/condition_variable.hpp>
#include <mpg/sync/latch.hpp>
#include <mpg/sync/mutex.hpp>
#include <mpg/sync/once.hpp>
#include <mpg/sync/pool.hpp>
#include <mpg/sync/semaphore.hpp>
#include <mpg/sync/shared_mutex.hpp>
#include <mpg/sync/wait_group.hpp>
