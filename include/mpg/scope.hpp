// Scopes.
//
//   mpg::scope group;
//   for (auto& url : urls) group.go([&](const mpg::context& ctx) { fetch(url, ctx); });
//   group.wait();                             // all have ended; throws what the first of them threw
//
// A scope's tasks end with it: its destructor cancels their context and waits for them.
#pragma once

#include <mpg/cancel/scope.hpp>
#include <mpg/sched/whole.hpp>
