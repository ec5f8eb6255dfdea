// Signals as values.
//
//   auto stop = mpg::notify({SIGINT, SIGTERM});
//   mpg::select(mpg::on_recv(stop, [](std::optional<int> number) { ... }), mpg::on_done(ctx));
#pragma once

#include <mpg/io/signal.hpp>
#include <mpg/sched/whole.hpp>

#include <csignal>
