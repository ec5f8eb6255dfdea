// Tasks: go, spawn, task<R>, yield, blocking, thread_lock, no_suspend, task_local<T>, this_task.
//
//   mpg::go([] { ... });                       // start and forget
//   auto t = mpg::spawn(compute, 42);          // start
//   int r = t.join();                          // wait for the result
#pragma once

#include <mpg/cancel/task_handle.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sched/no_suspend.hpp>
#include <mpg/sched/task_local.hpp>
#include <mpg/sched/this_task.hpp>
#include <mpg/sched/thread_lock.hpp>
#include <mpg/sched/whole.hpp>
#include <mpg/sched/yield.hpp>
