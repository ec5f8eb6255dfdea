// select.
//
//   mpg::select(mpg::on_recv(numbers, [&](std::optional<int> n) { ... }),       // nullopt: closed
//               mpg::on_send(results, value),                                  // a handler may be left out
//               mpg::on_timeout(50ms, [&] { ... }),
//               mpg::on_done(ctx, [&] { ... }));
//   mpg::select(mpg::on_recv(numbers, use), mpg::otherwise(give_up));           // does not wait
//
//   mpg::select_set set;                                                        // decided at run time
//   for (auto& c : channels) set.recv(c, use);
//   while (working) set.wait();
//
// The argument why it is right: <mpg/chan/core.hpp> and <mpg/chan/wait_many.hpp>.
#pragma once

#include <mpg/chan/select.hpp>
#include <mpg/chan/select_set.hpp>
#include <mpg/sched/whole.hpp>
