// Contexts.
//
//   auto ctx = mpg::with_timeout(mpg::context::background(), 2s);   // cancelled at the end of its block, at
//                                                                   the latest
//   if (in.recv(ctx, v) == mpg::chan_status::cancelled) return ctx.err();
//
// context          done(), is_done(), err(), cause(), deadline(), value<K>()
// with_cancel      with_timeout, with_deadline: a child that ends by itself, its parent, its time or its
//                  owner
// with_value<K>    a child that carries a value
// How a tree of contexts ends: <mpg/cancel/context_state.hpp>.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/sched/whole.hpp>
