// Time: sleeping, and channels on which time sends.
//
//   mpg::sleep_for(10ms);
//   mpg::select(mpg::on_recv(results, use), mpg::on_recv(mpg::after(1s), give_up));
//   mpg::ticker every(100ms);
//   for (mpg::time_point now : every.c()) poll(now);
//   auto later = mpg::after_func(5s, [] { report(); });   // later.stop()
//
// sleep_for  sleep_until   this strand waits
// after                    one value, later
// timer                    the same, with stop and reset
// ticker                   a value every period
// after_func               a call in a task of its own
// The clock is std::chrono::steady_clock; a duration of nanoseconds::max() means never.
#pragma once

#include <mpg/chan/after.hpp>
#include <mpg/chan/after_func.hpp>
#include <mpg/chan/ticker.hpp>
#include <mpg/chan/timer.hpp>
#include <mpg/sched/sleep.hpp>
#include <mpg/sched/whole.hpp>
